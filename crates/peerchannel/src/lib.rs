//! Serverless multiparty messaging: named meshes, ordered exactly-once delivery, password security, over QUIC.
