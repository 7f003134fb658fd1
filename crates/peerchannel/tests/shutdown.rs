//! A runtime that ends under a mesh: how every program ends that returns early from `main`.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::fmt::Debug;
use std::future::IntoFuture as _;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::join;
use peerchannel::resolver::{BoxFuture, Found, MeshKey, Resolver, ResolverError};
use peerchannel::{FilterView, Verdict};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber, span};

/// Ends a test that hangs.
const HANG: Duration = Duration::from_secs(60);

/// Keeps what is logged as an error, on any thread of this process, and panics.
#[derive(Clone, Default)]
struct Errors(Arc<Mutex<Vec<String>>>);

impl Subscriber for Errors {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Level::ERROR
    }
    fn event(&self, event: &Event<'_>) {
        let mut text = Text(event.metadata().target().to_owned());
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

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0 += &format!(" {field}={value:?}");
    }
}

/// A resolver that never answers, so that the driver always waits for it.
#[derive(Debug)]
struct Silent;

impl Resolver for Silent {
    fn resolve(&self, _: MeshKey, _: usize) -> BoxFuture<'_, Result<Vec<Found>, ResolverError>> {
        Box::pin(std::future::pending())
    }
    fn describe(&self) -> String {
        "silent".into()
    }
}

/// A propagation filter runs on the driver: this one holds it while the runtime ends around
/// it, so that the driver finds its tasks cancelled, which else is a matter of luck.
#[test]
fn a_runtime_that_ends_under_a_mesh_is_no_fault() {
    let errors = Errors::default();
    tracing::subscriber::set_global_default(errors.clone()).unwrap();
    let (panics, default_hook) = (errors.clone(), std::panic::take_hook());
    std::panic::set_hook(Box::new(move |panic| {
        panics.0.lock().unwrap().push(panic.to_string());
        default_hook(panic);
    }));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let metrics = runtime.handle().metrics();
    let (judging, judged) = channel();
    let (release, released) = channel::<()>();
    // The sender ends with the filter, and that ends with the driver.
    let filter = move |_: &FilterView<'_>, judging: &Sender<()>| {
        judging.send(()).unwrap();
        released.recv_timeout(HANG).unwrap();
        Verdict::LocalAndRemote
    };
    let filter = move |view: &FilterView<'_>| filter(view, &judging);
    let mesh = runtime.block_on(join("ending").custom_resolver(Silent).filter(filter).into_future()).unwrap();
    let channel = mesh.channel("c");
    runtime.spawn(async move { channel.publish("held").await });
    judged.recv_timeout(HANG).unwrap();

    runtime.shutdown_background();
    let started = Instant::now();
    while metrics.num_alive_tasks() > 0 {
        assert!(started.elapsed() < HANG, "{} tasks are left", metrics.num_alive_tasks());
        std::thread::sleep(Duration::from_millis(5));
    }
    release.send(()).unwrap();
    assert_eq!(judged.recv_timeout(HANG), Err(RecvTimeoutError::Disconnected), "the driver ended");
    assert_eq!(*errors.0.lock().unwrap(), [""; 0]);
    drop(mesh);
}
