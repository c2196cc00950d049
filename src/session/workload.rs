//! The identity token of the platform that authctl runs on, with which a workload logs in and refreshes its session.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::sync::Arc;
use std::time::Duration;

use super::error::{WorkloadError, WorkloadProblem};
use super::limited_command::{Ended, KillOnDrop, RunningGroup, run_limited};
use super::received_tokens::{check_audience, quote_names};
use super::{IDENTITY_LIMIT, SessionError, SessionService};
use crate::broker::{self, BrokerOutcome, BrokerRequest, PendingRequest};
use crate::clock::UnixTime;
use crate::fs::{regular_file, unblock};
use crate::model::{AssertionAudience, Grant, IssuerUrl, Profile, Session, TokenSet, TokenTarget, Workload};
use crate::oauth::{
    IssuerError, Metadata, OAuthClient, TokenEndpoint, assertion_audience, discover, github_actions, jwt_bearer,
    token_exchange,
};
use crate::paths::WorkloadVariables;
use crate::secret::{Secret, SecretBytes};
use crate::verify::{MAX_TOKEN_LENGTH, unverified_claims};

/// The token of the pod's service account, which the kubelet replaces before it expires.
pub const KUBERNETES_TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// How far the platform's clock may be ahead of this machine's.
const CLOCK_DIFFERENCE: Duration = Duration::from_secs(60);

impl SessionService {
    /// Requests tokens for `target` with the identity token of the profile's workload: as an assertion, or by token exchange
    /// if the issuer's metadata lists only that. With an identity provider, the assertion is the one that it gives for the token.
    ///
    /// # Errors
    /// [`SessionError::Workload`] if there is no usable token: nothing is sent to the issuer then.
    pub async fn request_as_workload(
        &self,
        profile: &Profile,
        metadata: &Metadata,
        client: &OAuthClient,
        target: &TokenTarget,
    ) -> Result<TokenSet, SessionError> {
        let http = self.http(profile).await?;
        let endpoint = TokenEndpoint::of(&http, metadata, client, &*self.clock)?;
        let mut token = self.identity_token(profile, metadata).await?;
        if let Some(provider) = &profile.server.identity_provider {
            token = self.identity_assertion(profile, provider, &token, metadata, target).await?;
        }
        let offers = |grant_type| metadata.offers_grant(grant_type);
        let is_assertion = profile.server.identity_provider.is_some() || offers(jwt_bearer::GRANT_TYPE);
        let tokens = if is_assertion || !offers(token_exchange::GRANT_TYPE) {
            self.send(|| jwt_bearer::request(&endpoint, &token, target)).await?
        } else {
            let subject = (&token, token_exchange::JWT);
            self.send(|| token_exchange::request(&endpoint, subject, target)).await?
        };
        check_audience(&tokens, target)?;
        Ok(tokens)
    }

    /// Exchanges the ID token at the identity provider for an assertion (ID-JAG) for the profile's issuer.
    async fn identity_assertion(
        &self,
        profile: &Profile,
        provider: &IssuerUrl,
        id_token: &Secret,
        metadata: &Metadata,
        target: &TokenTarget,
    ) -> Result<Secret, SessionError> {
        let http = self.http_of_user(profile).await?.for_issuer(provider, &Arc::default());
        let client = OAuthClient::public(profile.server.identity_client_id.as_deref().unwrap_or_default());
        let exchange = async {
            let found = discover(&http, provider).await?;
            let endpoint = TokenEndpoint::of(&http, &found, &client, &*self.clock)?;
            token_exchange::identity_assertion(&endpoint, id_token, metadata.issuer.as_str(), target).await
        };
        self.within(IDENTITY_LIMIT, &format!("no assertion of {provider}"), exchange).await
    }

    /// Returns the identity token for the profile's issuer. Its claims are checked so that no token of the platform is sent
    /// to a server that it was not issued for; the issuer verifies it.
    async fn identity_token(&self, profile: &Profile, metadata: &Metadata) -> Result<Secret, SessionError> {
        let Some(workload) = &profile.server.workload else {
            return Err(IssuerError::Unsupported { what: "this grant without a `workload` in the profile" }.into());
        };
        let failed = |problem| failed(workload, problem);
        let audience = match &profile.server.identity_client_id {
            Some(client_id) if profile.server.identity_provider.is_some() => client_id.clone(),
            _ => assertion_audience(&profile.server.client_key.audience, metadata),
        };
        let token = match workload {
            Workload::GitHub => self.github_token(profile, workload, &audience).await?,
            Workload::GitLab => {
                let token = WorkloadVariables::capture().gitlab_token;
                token.ok_or_else(|| failed(WorkloadProblem::NoVariable(WorkloadVariables::GITLAB)))?
            }
            Workload::Kubernetes => read(workload, Path::new(KUBERNETES_TOKEN)).await?,
            Workload::File(path) => read(workload, path).await?,
            Workload::Command(words) => run(profile, workload, words).await?,
        };
        let token = token.trimmed();
        let claims = unverified_claims(token.expose()).ok_or_else(|| failed(WorkloadProblem::NotJwt))?;
        // By default the URL of the token endpoint identifies the issuer too (RFC 7523, section 3).
        let endpoint = metadata.token_endpoint.as_ref().map(ToString::to_string);
        let endpoint = endpoint.filter(|_| profile.server.client_key.audience == AssertionAudience::Issuer);
        if !claims.audiences.iter().any(|found| *found == audience || Some(found) == endpoint.as_ref()) {
            let found = quote_names(claims.audiences.iter());
            let found = if found.is_empty() { "no audience".to_owned() } else { found };
            return Err(failed(WorkloadProblem::Audience { found, expected: audience }));
        }
        match claims.exp {
            Some(exp) if exp <= self.clock.now() => Err(failed(WorkloadProblem::Expired)),
            _ => Ok(token),
        }
    }

    /// Returns until when the platform of a workload is known to issue identity tokens, which refresh `session`.
    pub async fn identity_end(&self, profile: &Profile, session: &Session) -> IdentityEnd {
        let Some(workload) = profile.server.workload.as_ref().filter(|_| session.grant == Grant::Workload) else {
            return IdentityEnd::Unknown;
        };
        let variables = WorkloadVariables::capture();
        let token = match workload {
            // Set once for a job.
            Workload::GitLab => variables.gitlab_token,
            // It authenticates the requests for identity tokens.
            Workload::GitHub => variables.github_url.and(variables.github_token),
            Workload::File(path) if is_replaced_by_kubelet(path) => return IdentityEnd::Unknown,
            Workload::File(path) => read(workload, path).await.ok(),
            Workload::Kubernetes | Workload::Command(_) => return IdentityEnd::Unknown,
        };
        let now = self.clock.now();
        let Some(token) = token else { return IdentityEnd::At(now) };
        let claims = unverified_claims(token.expose().trim());
        let Some((issued_at, end)) = claims.and_then(|claims| Some((claims.iat, claims.exp?))) else {
            return IdentityEnd::Unknown;
        };
        match workload {
            Workload::File(path) => {
                let file = path.clone();
                let about = unblock(path, move || std::fs::metadata(file)).await;
                let written_at = about.ok().and_then(Result::ok).map_or(now, |about| UnixTime(about.mtime()));
                end_in_file(issued_at, end, written_at, session.logged_in_at, now)
            }
            _ => IdentityEnd::At(end),
        }
    }

    async fn github_token(
        &self,
        profile: &Profile,
        workload: &Workload,
        audience: &str,
    ) -> Result<Secret, SessionError> {
        let missing = |name| failed(workload, WorkloadProblem::NoVariable(name));
        let variables = WorkloadVariables::capture();
        let url = variables.github_url.ok_or_else(|| missing(WorkloadVariables::GITHUB_URL))?;
        let bearer = variables.github_token.ok_or_else(|| missing(WorkloadVariables::GITHUB_TOKEN))?;
        // The address is the platform's, not the issuer's.
        let http = self.http_of_user(profile).await?;
        let token = github_actions::identity_token(&http, &url, &bearer, audience).await;
        token.map_err(|error| failed(workload, WorkloadProblem::Request(error)))
    }
}

/// Returns what a command prints, of a limited length and within [`IDENTITY_LIMIT`]. A confined agent has its broker run it.
async fn run(profile: &Profile, workload: &Workload, words: &[String]) -> Result<Secret, SessionError> {
    let failed = |text: String| failed(workload, WorkloadProblem::Command(text));
    let unusable = |error: io::Error| failed(format!("cannot be run: {error}"));
    let ended = if broker::is_connected() {
        let request = BrokerRequest::Workload { profile: profile.name.to_string() };
        let (_caller, pending) = PendingRequest::start_unblocked(request).await.map_err(unusable)?;
        let response = tokio::task::spawn_blocking(move || pending.wait()).await;
        response.map_err(|_| SessionError::Interrupted)?.map(|response| {
            let status = match response.outcome {
                BrokerOutcome::Ended(status, _) => status.map(ExitStatus::from_raw),
                _ => None,
            };
            Ended { status, output: response.output }
        })
    } else {
        // Ended with its caller, for example by Ctrl-C.
        let caller = KillOnDrop::default();
        let (words, group) = (words.to_vec(), caller.0.clone());
        let ended = tokio::task::spawn_blocking(move || run_workload_command(&words, &group)).await;
        ended.map_err(|_| SessionError::Interrupted)?
    };
    token_of(ended.map_err(unusable)?).map_err(failed)
}

/// Runs the command of a workload, with its limits. Holds the thread.
///
/// # Errors
/// If it cannot be run.
pub fn run_workload_command(words: &[String], group: &RunningGroup) -> io::Result<Ended> {
    let [program, arguments @ ..] = words else { return Err(io::Error::other("it is empty")) };
    let mut command = Command::new(program);
    command.args(arguments);
    run_limited(command, b"", IDENTITY_LIMIT, Some(MAX_TOKEN_LENGTH), group)
}

fn failed(workload: &Workload, problem: WorkloadProblem) -> SessionError {
    SessionError::Workload(WorkloadError { workload: workload.to_string(), problem })
}

/// Returns the token that a command has printed.
fn token_of(Ended { status, output }: Ended) -> Result<Secret, String> {
    match status.map(|status| status.code()) {
        None if output.expose().len() > MAX_TOKEN_LENGTH => {
            Err(format!("printed more than {} KiB", MAX_TOKEN_LENGTH >> 10))
        }
        None => Err(format!("did not end within {} s", IDENTITY_LIMIT.as_secs())),
        Some(Some(0)) => text(&output).ok_or_else(|| "printed binary data".to_owned()),
        Some(Some(code)) => Err(format!("exited with status {code}")),
        Some(None) => Err("was killed".to_owned()),
    }
}

/// What is known of the end of a workload's identity tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdentityEnd {
    /// The platform issues new ones, or no end is known.
    Unknown,
    /// The platform issues none after that.
    At(UnixTime),
    /// The one in a file expires then, and it is not known whether another program replaces it.
    UnlessReplaced(UnixTime),
}

/// Returns what is known of the end of the tokens in a file, whose token expires at `end`. A program that replaces the file in
/// time does so at least once in a token's lifetime.
fn end_in_file(
    issued_at: Option<UnixTime>,
    end: UnixTime,
    written_at: UnixTime,
    logged_in_at: UnixTime,
    now: UnixTime,
) -> IdentityEnd {
    let was_replaced = issued_at.is_some_and(|at| at > logged_in_at.plus(CLOCK_DIFFERENCE));
    let lifetime = issued_at.unwrap_or(written_at).until(end);
    if was_replaced {
        IdentityEnd::Unknown
    } else if now > written_at.plus(lifetime) {
        IdentityEnd::At(end)
    } else {
        IdentityEnd::UnlessReplaced(end)
    }
}

/// Returns whether the file is in a volume of a pod: the kubelet replaces the tokens in it.
fn is_replaced_by_kubelet(path: &Path) -> bool {
    std::fs::read_link(path).is_ok_and(|target| target.starts_with("..data"))
}

async fn read(workload: &Workload, path: &Path) -> Result<Secret, SessionError> {
    let file = path.to_owned();
    let bytes = unblock(path, move || regular_file::read(&file, MAX_TOKEN_LENGTH as u64)).await;
    let bytes = bytes.map_err(|_| SessionError::Interrupted)?;
    let unreadable = |detail| failed(workload, WorkloadProblem::File { path: path.to_owned(), detail });
    text(&bytes.map_err(unreadable)?).ok_or_else(|| failed(workload, WorkloadProblem::NotJwt))
}

fn text(bytes: &SecretBytes) -> Option<Secret> {
    std::str::from_utf8(bytes.expose()).ok().map(|text| Secret::new(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use serde_json::json;

    use super::*;
    use crate::session::tests::expired_session;

    #[test]
    fn file_ends_a_session_only_if_nothing_has_replaced_it_for_too_long() {
        use IdentityEnd::{At, Unknown, UnlessReplaced};
        // Now is 10000, and a token lasts 3600 s.
        for (issued_at, end, written_at, logged_in_at, expected) in [
            // Written at the login, or before it, or replaced by a program that has not done so since the login.
            (Some(9900), 13500, 9900, 9950, UnlessReplaced(UnixTime(13500))),
            (Some(7000), 10600, 7000, 9950, UnlessReplaced(UnixTime(10600))),
            (Some(7000), 10600, 9900, 9950, UnlessReplaced(UnixTime(10600))),
            (None, 13500, 9900, 9950, UnlessReplaced(UnixTime(13500))),
            // Replaced since the login.
            (Some(9900), 13500, 9900, 8000, Unknown),
            (Some(9900), 13500, 1000, 8000, Unknown),
            // By the same program as the login, a moment later.
            (Some(9900), 13500, 9900, 9860, UnlessReplaced(UnixTime(13500))),
            // Nothing has replaced it for longer than its token's lifetime.
            (Some(6000), 9600, 6000, 9950, At(UnixTime(9600))),
            (None, 9600, 6000, 9950, At(UnixTime(9600))),
            (Some(7000), 10600, 6399, 9950, At(UnixTime(10600))),
            (Some(7000), 10600, 6400, 9950, UnlessReplaced(UnixTime(10600))),
            // A clock that is behind, and an end before the start.
            (Some(11000), 14600, 11000, 10990, UnlessReplaced(UnixTime(14600))),
            (Some(9000), 8000, 9999, 9950, At(UnixTime(8000))),
        ] {
            let [end, written_at, logged_in_at] = [end, written_at, logged_in_at].map(UnixTime);
            let found = end_in_file(issued_at.map(UnixTime), end, written_at, logged_in_at, UnixTime(10000));
            assert_eq!(found, expected, "{issued_at:?} {end:?} {written_at:?} {logged_in_at:?}");
        }
    }

    #[tokio::test]
    async fn silent_identity_provider_is_unreachable() {
        let dir = tempfile::tempdir().expect("a directory");
        let (sessions, _, mut profile, _) = expired_session(dir.path(), false);
        let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let provider = format!("http://{}", silent.local_addr().expect("bound"));
        let [header, claims] = [json!({"alg": "ES256"}), json!({"aud": "cli"})];
        let [header, claims] = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
        let file = dir.path().join("identity");
        std::fs::write(&file, format!("{header}.{claims}.AAAA")).expect("written");
        let server = profile.server_mut();
        server.workload = Some(Workload::File(file));
        server.identity_provider = provider.parse().ok();
        server.identity_client_id = Some("cli".into());
        let metadata = sessions.metadata(&profile).await.expect("of the profile");
        let (client, target) = (OAuthClient::public("cli"), TokenTarget::default());
        let request = sessions.request_as_workload(&profile, &metadata, &client, &target);
        let result = tokio::time::timeout(std::time::Duration::from_secs(10), request).await;
        let error = result.expect("limited").expect_err("silent");
        assert_eq!(error.to_string(), format!("no assertion of {provider} within 30 s"));
    }
}
