//! Proofs for requests that callers make with a bound token (DPoP; RFC 9449, section 7).

use super::{SessionError, SessionService};
use crate::agent::protocol::ProofRequest;
use crate::model::{Profile, Session, parse_method, secure_url};
use crate::oauth::{DpopKey, ProvenRequest, is_nonce};
use crate::secret::Secret;

impl SessionService {
    /// Returns a proof for a request of the caller with a token of `session`, its own unless the request names one. A nonce
    /// is remembered for later requests to the same server.
    ///
    /// # Errors
    /// [`SessionError::NotBound`], [`SessionError::InvalidProofRequest`], or [`SessionError::Issuer`] if the key is damaged.
    pub async fn proof(
        &self,
        profile: &Profile,
        session: &Session,
        request: &ProofRequest,
    ) -> Result<Secret, SessionError> {
        let stored = session.dpop_key.as_ref().ok_or_else(|| SessionError::NotBound(profile.name.clone()))?;
        let url = secure_url(&request.url).map_err(|error| SessionError::InvalidProofRequest(error.to_string()))?;
        parse_method(&request.method).map_err(|error| SessionError::InvalidProofRequest(error.to_string()))?;
        if !request.nonce.as_deref().is_none_or(is_nonce) {
            return Err(SessionError::InvalidProofRequest("invalid nonce (RFC 9449, section 8.1)".into()));
        }
        let access_token = request.access_token.as_ref().unwrap_or(&session.tokens.access_token);
        let proven = ProvenRequest { method: &request.method, url: &url, access_token: Some(access_token) };
        let http = self.http(profile).await?;
        Ok(http.caller_proof(&DpopKey::from_stored(stored)?, &proven, request.nonce.as_deref(), self.clock.now())?)
    }
}
