//! Resolves host names so that many requests waiting for one name need one thread.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::sync::watch;

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
        let running = pending.get(name).and_then(Weak::upgrade).filter(|sender| sender.receiver_count() > 0);
        if let Some(sender) = running {
            return Ok(sender.subscribe());
        }
        let (sender, receiver) = watch::channel(None);
        let sender = Arc::new(sender);
        pending.insert(name.to_owned(), Arc::downgrade(&sender));
        let (lookup, all, name) = (self.lookup, Arc::clone(&self.pending), name.to_owned());
        std::thread::Builder::new().name("resolver".into()).spawn(move || {
            let result = lookup(&name).map_err(|error| error.to_string());
            let own = Arc::downgrade(&sender);
            let mut pending = all.lock().unwrap_or_else(PoisonError::into_inner);
            if pending.get(&name).is_some_and(|latest| latest.ptr_eq(&own)) {
                pending.remove(&name);
            }
            sender.send_replace(Some(result));
        })?;
        Ok(receiver)
    }
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let pending = self.join_or_start(name.as_str());
        Box::pin(async move {
            let failed = |reason: String| ResolveError { name: name.as_str().to_owned(), reason };
            let result = pending?.wait_for(Option::is_some).await?.clone();
            let addresses = result.unwrap_or_else(|| Ok(Vec::new())).map_err(failed)?;
            if addresses.is_empty() {
                return Err(failed("it has no address".into()).into());
            }
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;
    use crate::clock::{Clock as _, SystemClock};

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
