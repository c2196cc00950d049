//! Resolves host names so that many requests waiting for one name need one thread.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::sync::watch;
use url::{Host, Url};

use super::network::Network;
use crate::model::InsecureUrl;

/// Returns the addresses of a host name.
pub(super) type Lookup = fn(&str) -> io::Result<Vec<SocketAddr>>;

/// Uses the system's resolver, with all sources that it is configured to use.
pub(super) fn system_lookup(name: &str) -> io::Result<Vec<SocketAddr>> {
    Ok((name, 0).to_socket_addrs()?.collect())
}

/// A name that could not be resolved: it has no address, or no name server responded.
#[derive(Debug, thiserror::Error)]
#[error("cannot resolve {name}: {reason}")]
pub(super) struct ResolveError {
    /// The name that was looked up: the server's or the proxy's.
    pub(super) name: String,
    reason: String,
}

type LookupResult = Result<Vec<SocketAddr>, String>;
type PendingLookups = HashMap<String, Weak<watch::Sender<Option<LookupResult>>>>;

/// Runs each lookup on a detached thread, since the system's resolver cannot be cancelled. Requests for the same name share
/// one lookup: a thousand profiles at one dead name server must not take a thread each.
#[derive(Clone)]
pub(super) struct Resolver {
    lookup: Lookup,
    pending: Arc<Mutex<PendingLookups>>,
}

impl Resolver {
    pub(super) fn new(lookup: Lookup) -> Self {
        Self { lookup, pending: Arc::default() }
    }

    /// Joins the pending lookup of `name` or starts one. A lookup that every waiter has given up on is not joined: the
    /// network may have come back since.
    fn join_or_start(&self, name: &str) -> io::Result<watch::Receiver<Option<LookupResult>>> {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        pending.retain(|_, sender| sender.strong_count() > 0);
        let running = pending.get(name).and_then(Weak::upgrade).filter(|sender| sender.receiver_count() > 0);
        if let Some(sender) = running {
            return Ok(sender.subscribe());
        }
        let (sender, receiver) = watch::channel(None);
        let sender = Arc::new(sender);
        pending.insert(name.to_owned(), Arc::downgrade(&sender));
        let (lookup, name) = (self.lookup, name.to_owned());
        std::thread::Builder::new().name("resolver".into()).spawn(move || {
            sender.send_replace(Some(lookup(&name).map_err(|error| error.to_string())));
        })?;
        Ok(receiver)
    }
}

impl Resolver {
    /// Looks a name up at once, and returns its addresses: at least one.
    fn addresses_of(&self, name: &str) -> impl Future<Output = Result<Vec<SocketAddr>, BoxError>> + use<> {
        let (pending, name) = (self.join_or_start(name), name.to_owned());
        async move {
            let failed = |reason: String| ResolveError { name, reason };
            let result = pending?.wait_for(Option::is_some).await?.clone();
            match result.unwrap_or_else(|| Ok(Vec::new())) {
                Ok(addresses) if addresses.is_empty() => Err(failed("it has no address".into()).into()),
                Ok(addresses) => Ok(addresses),
                Err(reason) => Err(failed(reason).into()),
            }
        }
    }

    /// Returns the network of a host. One with addresses in several counts as in the one that is farthest away, and one that
    /// cannot be resolved as public.
    async fn network_of(&self, host: &Host) -> Network {
        match host {
            Host::Ipv4(address) => Network::of((*address).into()),
            Host::Ipv6(address) => Network::of((*address).into()),
            Host::Domain(name) => {
                let addresses = self.addresses_of(name).await.unwrap_or_default();
                addresses.iter().map(|address| Network::of(address.ip())).min().unwrap_or(Network::Public)
            }
        }
    }
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

tokio::task_local! {
    /// The limit of the request that this task sends.
    static LIMIT: Option<NetworkLimit>;
}

/// Sends a request within `limit`, which applies to the addresses that its connection is made to.
pub(super) async fn limited<T>(limit: Option<NetworkLimit>, request: impl Future<Output = T>) -> T {
    LIMIT.scope(limit, request).await
}

/// The limit for a request to an address that an issuer names: it goes to a public network or to the issuer's own.
#[derive(Clone)]
pub(super) struct NetworkLimit {
    target: Host,
    issuer: Host,
}

impl NetworkLimit {
    /// Returns the limit for requests to `target`, which `issuer` names.
    pub(super) fn new(target: &Url, issuer: &Url) -> Option<Self> {
        Some(Self { target: target.host()?.to_owned(), issuer: issuer.host()?.to_owned() })
    }

    /// Checks a target that is an address. A name is checked when it has been resolved, unless a proxy resolves it: then
    /// the issuer's is not resolved here either.
    ///
    /// # Errors
    /// [`InsecureUrl::Internal`].
    pub(super) async fn check(
        &self,
        resolver: &Resolver,
        through_proxy: bool,
        limit: Duration,
    ) -> Result<(), InsecureUrl> {
        let network = match (&self.target, &self.issuer) {
            (Host::Domain(_), _) => return Ok(()),
            (Host::Ipv4(address), _) => Network::of((*address).into()),
            (Host::Ipv6(address), _) => Network::of((*address).into()),
        };
        let of_issuer = match &self.issuer {
            _ if network == Network::Public => return Ok(()),
            Host::Domain(_) if through_proxy => Network::Public,
            issuer => tokio::time::timeout(limit, resolver.network_of(issuer)).await.unwrap_or(Network::Public),
        };
        if network <= of_issuer { Ok(()) } else { Err(self.error(network)) }
    }

    /// Returns those of the target's addresses that a connection may be made to.
    async fn filter(
        &self,
        resolver: &Resolver,
        mut addresses: Vec<SocketAddr>,
    ) -> Result<Vec<SocketAddr>, InsecureUrl> {
        let network = |address: &SocketAddr| Network::of(address.ip());
        let Some(nearest) = addresses.iter().map(network).max().filter(|nearest| *nearest > Network::Public) else {
            return Ok(addresses);
        };
        let of_issuer = resolver.network_of(&self.issuer).await;
        addresses.retain(|address| network(address) <= of_issuer);
        if addresses.is_empty() { Err(self.error(nearest)) } else { Ok(addresses) }
    }

    fn error(&self, network: Network) -> InsecureUrl {
        InsecureUrl::Internal { host: self.target.to_string(), network: network.as_str() }
    }
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        // The name of a proxy is resolved here too, and is the user's.
        let limit = LIMIT.try_with(Clone::clone).ok().flatten();
        let limit = limit.filter(|limit| limit.target == Host::Domain(name.as_str().to_owned()));
        let (resolver, addresses) = (self.clone(), self.addresses_of(name.as_str()));
        Box::pin(async move {
            let mut addresses = addresses.await?;
            if let Some(limit) = limit {
                addresses = limit.filter(&resolver, addresses).await?;
            }
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::clock::{Clock as _, SystemClock};

    #[tokio::test]
    async fn through_a_proxy_only_addresses_are_checked_and_no_name_is_looked_up() {
        static LOOKUPS: AtomicUsize = AtomicUsize::new(0);
        let resolver = Resolver::new(|_| {
            LOOKUPS.fetch_add(1, Ordering::SeqCst);
            Ok(vec![([10, 0, 0, 1], 0).into()])
        });
        for (target, issuer, through_proxy, allowed, lookups) in [
            ("https://inside.test/", "https://issuer.test/", true, true, 0),
            ("https://1.1.1.1/", "https://issuer.test/", true, true, 0),
            ("https://10.0.0.1/", "https://issuer.test/", true, false, 0),
            ("https://169.254.169.254/", "https://10.0.0.1/", true, false, 0),
            ("https://10.0.0.1/", "https://192.168.0.1/", true, true, 0),
            ("https://1.1.1.1/", "https://issuer.test/", false, true, 0),
            ("https://10.0.0.1/", "https://issuer.test/", false, true, 1),
        ] {
            let url = |text| Url::parse(text).expect("valid");
            let limit = NetworkLimit::new(&url(target), &url(issuer)).expect("both have hosts");
            let checked = limit.check(&resolver, through_proxy, Duration::from_secs(20)).await;
            assert_eq!(checked.is_ok(), allowed, "{issuer} names {target}");
            assert_eq!(LOOKUPS.load(Ordering::SeqCst), lookups, "{issuer} names {target}");
        }
    }

    #[tokio::test]
    async fn named_host_is_connected_to_only_in_its_issuers_network() {
        static LOOKUPS: AtomicUsize = AtomicUsize::new(0);
        // `private.public.test` has an address in both networks, and `test` has none.
        let resolver = Resolver::new(|name| {
            LOOKUPS.fetch_add(1, Ordering::SeqCst);
            let address = |label: &str| match label {
                "public" => Some([1, 1, 1, 1]),
                "private" => Some([10, 0, 0, 1]),
                "link" => Some([169, 254, 169, 254]),
                "loopback" => Some([127, 0, 0, 1]),
                _ => None,
            };
            Ok(name.split('.').filter_map(address).map(|address| (address, 0).into()).collect())
        });
        let connect = async |target: &str, issuer: &str, name: &str| {
            let url = |host: &str| Url::parse(&format!("https://{host}/")).expect("valid");
            let limit = NetworkLimit::new(&url(target), &url(issuer));
            let resolved = limited(limit, async { resolver.resolve(name.parse().expect("a name")).await }).await;
            let text = |addresses: Addrs| addresses.map(|address| address.ip().to_string()).collect::<Vec<_>>();
            resolved.map(|addresses| text(addresses).join(" ")).map_err(|error| error.to_string())
        };
        for (target, issuer, expected) in [
            ("public.test", "public.test", Ok("1.1.1.1")),
            ("public.test", "loopback.test", Ok("1.1.1.1")),
            ("private.test", "private.test", Ok("10.0.0.1")),
            ("private.test", "192.168.0.1", Ok("10.0.0.1")),
            ("private.test", "loopback.test", Ok("10.0.0.1")),
            ("private.public.test", "private.test", Ok("10.0.0.1 1.1.1.1")),
            ("private.public.test", "public.test", Ok("1.1.1.1")),
            ("link.private.test", "private.test", Ok("10.0.0.1")),
            ("private.test", "public.test", Err("private")),
            ("private.test", "private.public.test", Err("private")),
            ("private.test", "test", Err("private")),
            ("link.test", "private.test", Err("link-local")),
            ("link.private.test", "public.test", Err("link-local")),
            ("loopback.test", "link.test", Err("loopback")),
        ] {
            let refused = |network: &str| {
                format!("{target} has a {network} address, which only a server with a {network} address may name")
            };
            let expected = expected.map(str::to_owned).map_err(refused);
            assert_eq!(connect(target, issuer, target).await, expected, "{issuer} names {target}");
        }
        let proxy = connect("public.test", "public.test", "private.test").await;
        assert_eq!(proxy.as_deref(), Ok("10.0.0.1"), "the name of a proxy is the user's");
        LOOKUPS.store(0, Ordering::SeqCst);
        assert!(connect("public.test", "private.test", "public.test").await.is_ok());
        assert_eq!(LOOKUPS.load(Ordering::SeqCst), 1, "for a public address the issuer's is not looked up");
    }

    #[test]
    fn system_lookup_returns_the_addresses() {
        assert_eq!(system_lookup("127.0.0.1").ok(), Some(vec![([127, 0, 0, 1], 0).into()]));
    }

    #[tokio::test]
    async fn name_without_an_address_is_an_error() {
        for (lookup, reason) in [
            ((|_: &str| Ok(Vec::new())) as Lookup, "cannot resolve a.test: it has no address"),
            (|_: &str| Err(io::ErrorKind::TimedOut.into()), "cannot resolve a.test: timed out"),
        ] {
            let result = Resolver::new(lookup).resolve("a.test".parse().expect("a name")).await;
            assert_eq!(result.err().expect("no address").to_string(), reason);
        }
    }

    #[tokio::test]
    async fn requests_for_one_name_share_one_lookup() {
        static LOOKUPS: AtomicUsize = AtomicUsize::new(0);
        static BLOCKED: Mutex<()> = Mutex::new(());
        let lookup = |_: &str| {
            LOOKUPS.fetch_add(1, Ordering::SeqCst);
            drop(BLOCKED.lock());
            Ok(vec![([127, 0, 0, 1], 0).into()])
        };
        let resolver = Resolver::new(lookup);
        let resolve = |name: &str| resolver.resolve(name.parse().expect("a name"));
        let blocked = BLOCKED.lock().expect("not poisoned");
        let given_up = resolve("one.test");
        let started = SystemClock.monotonic();
        while LOOKUPS.load(Ordering::SeqCst) == 0 {
            assert!(started.elapsed() < Duration::from_secs(20), "the lookup did not start");
            std::thread::yield_now();
        }
        drop(given_up);
        let waiting: Vec<Resolving> = (0..20).map(|_| resolve("one.test")).collect();
        let other = resolve("two.test");
        drop(blocked);
        for addresses in waiting {
            assert_eq!(addresses.await.expect("an address").count(), 1);
        }
        assert_eq!(other.await.expect("an address").count(), 1);
        assert_eq!(LOOKUPS.load(Ordering::SeqCst), 3, "the one given up, the shared one, and the other name's");
        assert_eq!(resolve("one.test").await.expect("an address").count(), 1);
        assert_eq!(LOOKUPS.load(Ordering::SeqCst), 4, "results are not cached");
    }
}
