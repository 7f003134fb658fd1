//! Tasks that ended without a result.
//!
//! There are two reasons, and only one is a fault: the task panicked, or its runtime is being
//! shut down while somebody still waits for it. The second is how a program ends whose main
//! function returns early, and nothing to alarm anybody about.

use tokio::task::JoinError;

use crate::resolver::ResolverError;

/// What to answer for a task that ended without a result. A panic is logged as the error it
/// is, since the answer cannot tell what went wrong.
pub(crate) fn without_result(what: &'static str, error: &JoinError) -> ResolverError {
    let reason = if error.is_panic() {
        tracing::error!(%error, what, "a task panicked");
        "an internal error, see the log"
    } else {
        tracing::debug!(what, "a task was cancelled: its runtime is shut down");
        "the program is ending"
    };
    ResolverError::Machine { reason: reason.to_owned() }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::fmt::Debug;
    use std::pin::pin;
    use std::sync::{Arc, Mutex};
    use std::task::{Context, Poll, Waker};

    use tracing::field::{Field, Visit};
    use tracing::{Event, Level, Metadata, Subscriber, span};

    use super::*;

    /// Keeps what is logged as an error.
    #[derive(Clone, Default)]
    struct Errors(Arc<Mutex<Vec<String>>>);

    impl Subscriber for Errors {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            *metadata.level() == Level::ERROR
        }
        fn event(&self, event: &Event<'_>) {
            let mut text = Text::default();
            event.record(&mut text);
            self.0.lock().unwrap().push(text.0);
        }
        fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
            span::Id::from_u64(1)
        }
        fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
        fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
        fn enter(&self, _: &span::Id) {}
        fn exit(&self, _: &span::Id) {}
    }

    #[derive(Default)]
    struct Text(String);

    impl Visit for Text {
        fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
            self.0 += &format!("{field}={value:?} ");
        }
    }

    /// What becomes of a future whose runtime ends while its tasks have not run, and what it
    /// logs as errors.
    pub(crate) fn outlive_the_runtime<T>(future: impl Future<Output = T>) -> (T, Vec<String>) {
        let errors = Errors::default();
        let ended = tracing::subscriber::with_default(errors.clone(), || {
            let mut future = pin!(future);
            let mut context = Context::from_waker(Waker::noop());
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let inside = runtime.enter();
            assert!(future.as_mut().poll(&mut context).is_pending(), "its tasks have not run");
            drop(inside);
            drop(runtime);
            let mut polls = (0..100).map(|_| future.as_mut().poll(&mut context));
            polls.find_map(|poll| if let Poll::Ready(ended) = poll { Some(ended) } else { None })
        });
        let errors = errors.0.lock().unwrap().clone();
        (ended.expect("it ends without its runtime"), errors)
    }

    #[tokio::test]
    async fn a_panic_is_a_fault_and_a_cancelled_task_is_none() {
        let panicked = tokio::spawn(async { panic!("scripted") }).await.unwrap_err();
        let cancelled = {
            let task = tokio::spawn(std::future::pending::<()>());
            task.abort();
            task.await.unwrap_err()
        };
        let errors = Errors::default();
        tracing::subscriber::with_default(errors.clone(), || {
            let error = without_result("a test", &cancelled).to_string();
            assert!(error.contains("the program is ending"), "{error}");
            assert!(errors.0.lock().unwrap().is_empty());
            let error = without_result("a test", &panicked).to_string();
            assert!(error.contains("see the log"), "{error}");
            assert!(errors.0.lock().unwrap()[0].contains("scripted"));
        });
    }
}
