//! The link model's numbers are those of the transport.

use peerchannel_sim::transport;
use peerchannel_transport::{EndpointConfig, Lane, LaneLimits};

#[test]
fn the_models_numbers_are_the_transports() {
    let config = EndpointConfig::default();
    assert_eq!(transport::KEEP_ALIVE, config.keep_alive);
    assert_eq!(transport::IDLE_TIMEOUT, config.idle_timeout);
    assert_eq!(transport::HANDSHAKE_TIMEOUT, config.handshake_timeout);
    assert_eq!(transport::HANDSHAKES_MAX as usize, config.handshakes_max);
    assert_eq!(transport::STREAM_WINDOW, u64::from(config.stream_window));
    assert_eq!(transport::FINISH_TIMEOUT, config.finish_timeout);
    let queues = Lane::ALL.map(|lane| LaneLimits::QUEUES.of(lane) as u64);
    assert_eq!(transport::QUEUE_BYTES, queues);
}

#[test]
fn the_model_tells_of_a_pause_when_a_driver_does() {
    assert_eq!(transport::RESUME_NOTICED, peerchannel_mesh::STOPPED);
}

#[test]
fn the_models_numbers_are_admissions() {
    assert_eq!(transport::ADMISSION_DEADLINE, peerchannel_security::ADMISSION_DEADLINE);
}
