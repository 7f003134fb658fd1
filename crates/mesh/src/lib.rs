//! The brain of Peer Channel: a sans-IO state machine of one node in one mesh.
