//! Takes over the session of a login into memory.

use std::sync::Arc;

use super::audit::AuditAction;
use super::peer::Peer;
use super::response::{AgentResponse, json, see_openapi};
use super::route::handover_body;
use super::state::Agent;
use crate::agent::protocol::{HandoverItem, HandoverRequest};
use crate::error::{Error, ErrorCode, Hint};
use crate::secret::SecretBytes;

impl Agent {
    /// Takes over the session of a login, in memory. Its profile is saved afterwards.
    pub(super) async fn handover_request(
        self: &Arc<Self>,
        peer: &Peer,
        body: &SecretBytes,
    ) -> Result<AgentResponse, Arc<Error>> {
        let request = handover_body(body)?;
        let name = &request.profile;
        let taken = self.take_over(&request).await;
        taken.inspect_err(|failure| self.record_denied(peer, AuditAction::Handover, Some(name), failure))?;
        self.audit_log.record(peer, AuditAction::Handover, Some(name), self.now());
        if let Ok(profile) = self.profiles.choose(Some(name)) {
            self.forget(&profile);
        }
        Ok(json(&self.state()))
    }

    async fn take_over(self: &Arc<Self>, request: &HandoverRequest) -> Result<(), Arc<Error>> {
        self.agent_lock.check(self.now())?;
        let open = |item: &HandoverItem| Some((item.name.clone(), self.handover.open(&item.sealed()?)?));
        let items: Option<Vec<(String, SecretBytes)>> = request.items.iter().map(open).collect();
        let Some(items) = items else {
            let message = "an item is not encrypted to this agent";
            return Err(Arc::new(Error::msg(ErrorCode::AgentUnavailable, message, see_openapi())));
        };
        if items.is_empty() {
            return Err(Arc::new(Error::msg(ErrorCode::InvalidRequest, "there are no items", see_openapi())));
        }
        let name = &request.profile;
        let taken = self.sessions.take_over(name, items, request.replace, request.holds_profile_lock).await;
        if !taken.map_err(|e| Error::from(e).about(name))? {
            let message = format!("`{name}` still has the session of another account");
            let hint = Hint::login().with_flag("--replace").about(name);
            return Err(Arc::new(Error::msg(ErrorCode::OtherSubject, message, hint)));
        }
        Ok(())
    }
}
