//! Proofs for bound tokens (DPoP), made by the agent or here.

use super::App;
use crate::agent::protocol::{ProofRequest, ProofResponse};
use crate::error::{Error, ErrorCode, Hint};
use crate::secret::{Secret, SecretBytes};

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
        let proof = self.run(async {
            let sessions = self.sessions()?;
            let session = sessions.session(&profile).await?;
            Ok(sessions.proof(&profile, &session, request).await?)
        });
        proof.map_err(|error: Error| error.about(&profile.name))
    }
}
