//! Proofs for bound tokens (DPoP), made by the agent or here.

use super::App;
use crate::agent::protocol::{ProofRequest, ProofResponse};
use crate::error::{Error, ErrorCode, Hint};
use crate::model::{Profile, Session};
use crate::secret::{Secret, SecretBytes};
use crate::session::SessionError;

impl App {
    /// Returns the `DPoP` header of a request with a bound token: from the agent, which has the key, else made with the stored
    /// key.
    ///
    /// # Errors
    /// As [`crate::session::SessionService::proof`], and if there is no session.
    pub fn proof(&self, request: &ProofRequest) -> Result<Secret, Error> {
        let mut body = SecretBytes::default();
        serde_json::to_writer(&mut body, request).map_err(|e| Error::new(ErrorCode::Unexpected, e, Hint::None))?;
        if let Some(ProofResponse { proof, .. }) = self.try_agent("POST", "/v1/proof", Some(&body))? {
            return Ok(proof);
        }
        let profile = self.profile(request.profile.as_ref())?;
        self.run(self.own_proof(&profile, None, request))
    }

    /// Makes a proof here, with the key of `session` or of the stored one.
    pub(super) async fn own_proof(
        &self,
        profile: &Profile,
        session: Option<&Session>,
        request: &ProofRequest,
    ) -> Result<Secret, Error> {
        let (sessions, about) = (self.sessions()?, |error: SessionError| Error::from(error).about(&profile.name));
        let session = match session {
            Some(session) => session,
            None => &sessions.session(profile).await.map_err(about)?,
        };
        let proof = sessions.proof(profile, session, request).await;
        proof.map_err(about)
    }
}
