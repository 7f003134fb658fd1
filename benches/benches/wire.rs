//! Encoding and decoding floods, beside a bare length prefix.
#![allow(missing_docs, clippy::unwrap_used)]

use std::sync::Arc;

use bytes::{BufMut as _, Bytes, BytesMut};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use peerchannel_wire::{
    ChannelName, DataFrame, Epoch, Flood, FrameDecoder, LaneDecoder, LaneEncoder, NodeId, Sequence,
    Signature, StreamId, UnsignedBatch, limits,
};

const SIZES: [usize; 3] = [64, 1024, 65_536];

/// Messages per batch: what gathers while a lane is busy, within 64 KiB.
fn per_batch(size: usize) -> usize {
    (limits::BATCH_BYTES_MAX / size).clamp(1, 64)
}

fn stream() -> StreamId {
    StreamId {
        origin: NodeId::from_bytes([1; 32]),
        epoch: Epoch::new(1_790_000_000_000).unwrap(),
        channel: ChannelName::new("bench").unwrap(),
    }
}

fn encode(criterion: &mut Criterion) {
    for size in SIZES {
        let count = per_batch(size);
        let bodies = vec![Bytes::from(vec![7; size]); count];
        let mut group = criterion.benchmark_group("encode");
        group.throughput(Throughput::Bytes((size * count) as u64));
        group.bench_function(format!("ours/{size}"), |bencher| {
            let mut lane = LaneEncoder::new();
            bencher.iter(|| {
                let batch = UnsignedBatch::new(Sequence::new(1).unwrap(), 0, bodies.clone()).unwrap();
                let batch = Arc::new(batch.sign(Some(Signature::from_bytes([9; 64]))));
                lane.flood(&Flood { stream: stream(), hops: 0, batch })
            });
        });
        group.bench_function(format!("raw/{size}"), |bencher| {
            bencher.iter(|| {
                let mut buffer = BytesMut::with_capacity((size + 4) * count);
                for body in &bodies {
                    buffer.put_u32(u32::try_from(body.len()).unwrap());
                    buffer.put_slice(body);
                }
                buffer.freeze()
            });
        });
        group.finish();
    }
}

fn decode(criterion: &mut Criterion) {
    for size in SIZES {
        let count = per_batch(size);
        let bodies = vec![Bytes::from(vec![7; size]); count];
        let batch = UnsignedBatch::new(Sequence::new(1).unwrap(), 0, bodies.clone()).unwrap();
        let batch = Arc::new(batch.sign(Some(Signature::from_bytes([9; 64]))));
        let frame = LaneEncoder::new().flood(&Flood { stream: stream(), hops: 0, batch });
        let framed = [frame.head, frame.body].concat();
        let mut group = criterion.benchmark_group("decode");
        group.throughput(Throughput::Bytes((size * count) as u64));
        group.bench_function(format!("ours/{size}"), |bencher| {
            bencher.iter(|| {
                let mut decoder = FrameDecoder::new(limits::BULK_FRAME_MAX);
                decoder.push(&framed);
                let body = decoder.next_frame().unwrap().unwrap();
                let DataFrame::Flood(flood) = LaneDecoder::new().decode(body).unwrap() else { return 0 };
                flood.batch.messages().count()
            });
        });
        let mut raw = BytesMut::new();
        for body in &bodies {
            raw.put_u32(u32::try_from(body.len()).unwrap());
            raw.put_slice(body);
        }
        group.bench_function(format!("raw/{size}"), |bencher| {
            bencher.iter(|| {
                let mut buffer = BytesMut::from(&raw[..]);
                let mut count = 0;
                while buffer.len() >= 4 {
                    let length = u32::from_be_bytes(buffer.split_to(4)[..].try_into().unwrap()) as usize;
                    count += usize::from(!buffer.split_to(length).freeze().is_empty());
                }
                count
            });
        });
        group.finish();
    }
}

criterion_group!(benches, encode, decode);
criterion_main!(benches);
