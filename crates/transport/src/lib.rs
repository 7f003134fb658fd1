//! Authenticated QUIC links between two Peer Channel nodes: lanes, framing, byte-bounded queues, datagrams.
