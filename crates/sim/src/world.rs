//! The world of one run.

use crate::outcome::Outcome;
use crate::plan::{Plan, PlanError};

/// Thousands of nodes, the network between them, and a clock.
#[derive(Debug)]
pub struct World {
    plan: Plan,
}

impl World {
    /// Carries a plan out.
    ///
    /// # Errors
    /// [`PlanError`] if it cannot be.
    pub fn run(plan: Plan) -> Result<Outcome, PlanError> {
        plan.validate()?;
        Ok(Self { plan }.tell())
    }

    fn tell(self) -> Outcome {
        Outcome {
            replay: self.plan.replay(),
            duration_s: self.plan.duration.as_secs_f64(),
            nodes: self.plan.nodes,
            seed: self.plan.seed,
            scenario: self.plan.name,
            ..Outcome::default()
        }
    }
}
