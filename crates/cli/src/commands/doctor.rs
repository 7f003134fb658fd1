//! `doctor`: checks this machine, and a mesh, and says what to do.

mod checks;
mod mesh;

use crate::args::{DoctorArgs, Settings};
use crate::failure::Failure;
use crate::output::say;
use crate::signals::Stop;

/// How a check ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Finding {
    /// As it should be.
    Ok(String),
    /// It works, but not as well as it could; and what to do.
    Warn(String),
    /// It does not work; and what to do.
    Fail(String),
}

/// Runs the checks, one line each.
pub(super) async fn run(args: DoctorArgs, settings: &Settings, mut stop: Stop) -> Result<(), Failure> {
    let options = settings.complete(args.options.clone());
    let mut failed = 0;
    let mut tell = |name: &str, finding: Finding| {
        let (mark, text) = match finding {
            Finding::Ok(text) => ("ok  ", text),
            Finding::Warn(text) => ("warn", text),
            Finding::Fail(text) => {
                failed += 1;
                ("FAIL", text)
            }
        };
        say(&format!("{mark}  {name:<12} {text}"))
    };
    tell("sockets", checks::sockets(options.listen))?;
    tell("buffers", checks::buffers())?;
    tell("interfaces", checks::interfaces())?;
    tell("multicast", checks::multicast())?;
    tell("clock", checks::clock())?;
    for path in [&options.identity, &options.password_file].into_iter().flatten() {
        tell("secrets", checks::secret(path))?;
    }
    for uri in &options.resolver {
        tell("resolver", checks::resolver(uri).await)?;
    }
    match &args.mesh {
        None => tell("mesh", Finding::Ok("not asked for: `peerchannel doctor MESH` checks one".into()))?,
        Some(name) => {
            let findings = mesh::examine(name, args.options, settings, args.timeout, &mut stop).await?;
            for finding in findings {
                tell("mesh", finding)?;
            }
        }
    }
    match failed {
        0 => Ok(()),
        1 => Err(Failure::runtime("1 check failed: see above for what to do")),
        failed => Err(Failure::runtime(format!("{failed} checks failed: see above for what to do"))),
    }
}
