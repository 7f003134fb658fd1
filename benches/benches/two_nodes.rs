//! Two linked members end to end, beside a raw framed QUIC stream in the same run.
//!
//! `throughput`: one publisher sends, the other member's subscription receives. `unsigned` is
//! the same without origin signatures. `latency`: one message there and one back, halved by
//! nobody: both sides are measured the same way.
#![allow(missing_docs, clippy::unwrap_used)]

use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use peerchannel::Incoming;
use peerchannel_benches::{Pair, Raw};
use tokio::runtime::Runtime;

const SIZES: [usize; 3] = [64, 1024, 65_536];

/// Messages per measured go: enough that the window and the queues matter.
fn per_go(size: usize) -> u64 {
    if size >= 65_536 { 200 } else { 5_000 }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

async fn ours_go(pair: &mut Pair, body: &Bytes, count: u64) {
    let (here, heard) = (pair.here.clone(), &mut pair.heard_there);
    let body = body.clone();
    let publisher = tokio::spawn(async move {
        for _ in 0..count {
            here.publish(body.clone()).await.unwrap();
        }
    });
    let mut seen = 0;
    while seen < count {
        match heard.next().await.unwrap() {
            Incoming::Message(_) => seen += 1,
            other => unreachable!("a loss on loopback: {other}"),
        }
    }
    publisher.await.unwrap();
}

async fn raw_go(raw: &mut Raw, body: &Bytes, count: u64) {
    let (here, body) = (raw.here.clone(), body.clone());
    tokio::spawn(async move {
        for _ in 0..count {
            here.send(body.clone()).await.unwrap();
        }
    });
    let mut seen = 0;
    while seen < count {
        seen += raw.there.recv().await.unwrap().len() as u64;
    }
}

fn throughput(criterion: &mut Criterion) {
    let runtime = runtime();
    for (what, origin_auth) in [("throughput", true), ("unsigned", false)] {
        let mut group = criterion.benchmark_group(what);
        group.sample_size(10).measurement_time(Duration::from_secs(3));
        for size in SIZES {
            let (body, count) = (Bytes::from(vec![7; size]), per_go(size));
            group.throughput(Throughput::Elements(count));
            let mut pair = runtime.block_on(Pair::join(origin_auth)).unwrap();
            group.bench_function(BenchmarkId::new("ours", size), |bencher| {
                bencher.iter_custom(|goes| {
                    let begun = Instant::now();
                    for _ in 0..goes {
                        runtime.block_on(ours_go(&mut pair, &body, count));
                    }
                    begun.elapsed()
                });
            });
            let mut raw = runtime.block_on(Raw::connect()).unwrap();
            group.bench_function(BenchmarkId::new("raw", size), |bencher| {
                bencher.iter_custom(|goes| {
                    let begun = Instant::now();
                    for _ in 0..goes {
                        runtime.block_on(raw_go(&mut raw, &body, count));
                    }
                    begun.elapsed()
                });
            });
        }
        group.finish();
    }
}

fn latency(criterion: &mut Criterion) {
    let runtime = runtime();
    let mut group = criterion.benchmark_group("latency");
    group.sample_size(20).measurement_time(Duration::from_secs(3));
    for size in SIZES {
        let body = Bytes::from(vec![7; size]);
        let mut pair = runtime.block_on(Pair::join(true)).unwrap();
        group.bench_function(BenchmarkId::new("ours", size), |bencher| {
            bencher.iter(|| {
                runtime.block_on(async {
                    pair.here.publish(body.clone()).await.unwrap();
                    pair.heard_there.next().await.unwrap();
                    pair.there.publish(body.clone()).await.unwrap();
                    pair.heard_here.next().await.unwrap();
                });
            });
        });
        let mut raw = runtime.block_on(Raw::connect()).unwrap();
        group.bench_function(BenchmarkId::new("raw", size), |bencher| {
            bencher.iter(|| {
                runtime.block_on(async {
                    raw.here.send(body.clone()).await.unwrap();
                    raw.there.recv().await.unwrap();
                    raw.reply.send(body.clone()).await.unwrap();
                    raw.back.recv().await.unwrap();
                });
            });
        });
    }
    group.finish();
}

criterion_group!(benches, throughput, latency);
criterion_main!(benches);
