//! The check of a mesh: joining it for a moment, and what happens then.

use std::time::Duration;

use peerchannel::{Mesh, MeshEvent, Refusal};
use tokio::time::{Instant, timeout_at};

use super::Finding;
use crate::args::{MeshOptions, Settings, duration_text};
use crate::failure::Failure;
use crate::session;
use crate::signals::Stop;
use crate::watch::REFUSED_GRACE;

/// Findings of one mesh: who keeps failing is told once, and not all of a crowd.
const FINDINGS_MAX: usize = 16;

/// Joins, waits for somebody, tells what was in the way, leaves.
pub(super) async fn examine(
    name: &str,
    options: MeshOptions,
    settings: &Settings,
    patience: Duration,
    stop: &mut Stop,
) -> Result<Vec<Finding>, Failure> {
    let complete = settings.complete(options.clone());
    if !complete.has_credential() && std::env::var_os("PEERCHANNEL_PASSWORD").is_none() {
        return Ok(vec![Finding::Warn(format!(
            "{name:?} was not joined: give its --password-file, --password-env, --ask-password or --open"
        ))]);
    }
    let mesh = match session::join(name, options, settings, stop).await {
        Ok(Some(mesh)) => mesh,
        Ok(None) => return Ok(Vec::new()),
        Err(Failure::Runtime(why)) => return Ok(vec![Finding::Fail(why)]),
        Err(failure) => return Err(failure),
    };
    let findings = tokio::select! {
        findings = watch(&mesh, Instant::now() + patience, patience) => findings,
        () = stop.requested() => Vec::new(),
    };
    session::leave(&mesh).await;
    Ok(findings)
}

async fn watch(mesh: &Mesh, mut deadline: Instant, patience: Duration) -> Vec<Finding> {
    let mut events = mesh.events();
    let mut findings: Vec<Finding> = Vec::new();
    let mut wrong_password = false;
    while let Ok(Some(event)) = timeout_at(deadline, events.next()).await {
        let finding = match &event {
            MeshEvent::NeighborUp { node, address } => {
                findings.push(Finding::Ok(format!("{} at {address} admitted this node", node.short())));
                return findings;
            }
            // One fault, however many notice it; waiting does not mend it.
            MeshEvent::Refused { reason: Refusal::BadCredential, .. } if wrong_password => continue,
            MeshEvent::Refused { reason: Refusal::BadCredential, .. } => {
                wrong_password = true;
                deadline = deadline.min(Instant::now() + REFUSED_GRACE);
                Finding::Fail(format!("{event}: use the password of the others"))
            }
            MeshEvent::Refused { reason: Refusal::UnknownMesh, .. } => {
                Finding::Fail(format!("{event}: check the name, and --open against a password"))
            }
            MeshEvent::Refused { reason: Refusal::Oneself, .. } => continue,
            MeshEvent::Refused { .. } => Finding::Warn(event.to_string()),
            MeshEvent::Unreachable { .. } => {
                Finding::Warn(format!("{event}: is it running there, and is UDP allowed between the two?"))
            }
            MeshEvent::ResolverFailed { .. } => Finding::Fail(event.to_string()),
            _ => continue,
        };
        if findings.len() < FINDINGS_MAX && !findings.contains(&finding) {
            findings.push(finding);
        }
    }
    if wrong_password {
        return findings;
    }
    findings.push(Finding::Fail(format!(
        "nobody answered within {}: is another node running, and does --resolver look where it is?",
        duration_text(patience)
    )));
    findings
}
