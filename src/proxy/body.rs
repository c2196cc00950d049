//! Bodies: what passes through, and what is recorded of a request so that it can be sent a second time.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use http_body_util::Either;
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};

use super::headers::clean_trailers;
use crate::oauth::ApiBody;

/// The longest body that is recorded, in bytes.
const MAX_RECORDED: usize = 1 << 20;

/// A response's body: of the API, or of the proxy itself.
pub type ProxyBody = Either<ResponseBody, http_body_util::Full<Bytes>>;

/// Returns what is passed on of a part of a body; `None` for trailers of which nothing is.
fn passed_on(frame: Frame<Bytes>) -> Option<Frame<Bytes>> {
    match frame.into_trailers() {
        Ok(mut trailers) => {
            clean_trailers(&mut trailers);
            (!trailers.is_empty()).then(|| Frame::trailers(trailers))
        }
        Err(data) => Some(data),
    }
}

/// The body of the API's response.
pub struct ResponseBody {
    body: ApiBody,
    on_failure: Box<dyn FnMut() + Send>,
    failure: Option<<ApiBody as Body>::Error>,
}

impl ResponseBody {
    /// Wraps the body; `on_failure` is called if it breaks off.
    pub fn new(body: ApiBody, on_failure: impl FnMut() + Send + 'static) -> Self {
        Self { body, on_failure: Box::new(on_failure), failure: None }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = <ApiBody as Body>::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Some(failure) = self.failure.take() {
            return Poll::Ready(Some(Err(failure)));
        }
        while let Some(frame) = ready!(Pin::new(&mut self.body).poll_frame(context)) {
            match frame.map(passed_on) {
                Ok(None) => {}
                Ok(Some(frame)) => return Poll::Ready(Some(Ok(frame))),
                Err(failure) => {
                    (self.on_failure)();
                    // hyper closes the connection when it gets it. First, it sends what has arrived, as it does with each pause.
                    self.failure = Some(failure);
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
            }
        }
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// What has passed of a request's body. It may contain secrets of the caller, and ends with the request.
#[derive(Debug, Default)]
pub struct BodyRecord(Mutex<RecordState>);

#[derive(Debug, Default)]
struct RecordState {
    /// A copy: a part that arrived alone would keep the whole buffer of its connection.
    bytes: Vec<u8>,
    is_complete: bool,
    is_too_long: bool,
    has_failed: bool,
}

impl BodyRecord {
    /// Returns the whole body; `None` if it was too long, has trailers, or has not arrived to its end.
    #[must_use]
    pub fn whole(&self) -> Option<Bytes> {
        let state = self.lock();
        (state.is_complete && !state.is_too_long).then(|| state.bytes.clone().into())
    }

    /// Returns whether the caller has sent something that is no body, or has closed the connection before its end.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.lock().has_failed
    }

    fn lock(&self) -> MutexGuard<'_, RecordState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, frame: Option<&Frame<Bytes>>) {
        let mut state = self.lock();
        match frame.map(Frame::data_ref) {
            None => state.is_complete = true,
            Some(Some(data)) if !state.is_too_long && state.bytes.len() + data.len() <= MAX_RECORDED => {
                state.bytes.extend_from_slice(data);
            }
            Some(_) => {
                state.is_too_long = true;
                state.bytes = Vec::new();
            }
        }
    }
}

/// A request's body on its way, recorded in [`BodyRecord`].
#[derive(Debug)]
pub struct RecordedBody {
    body: Incoming,
    record: Arc<BodyRecord>,
}

impl RecordedBody {
    /// Wraps the body of a request that has one.
    #[must_use]
    pub fn new(body: Incoming) -> (Self, Arc<BodyRecord>) {
        let record = Arc::new(BodyRecord::default());
        (Self { body, record: Arc::clone(&record) }, record)
    }
}

impl Body for RecordedBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context)).transpose();
        let frame = frame.inspect_err(|_| self.record.lock().has_failed = true)?;
        // Nothing follows trailers.
        let frame = frame.and_then(passed_on);
        self.record.add(frame.as_ref());
        // A body of a known length is not asked for its end.
        if frame.is_some() && self.body.is_end_stream() {
            self.record.add(None);
        }
        Poll::Ready(frame.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn body_is_recorded_whole_or_not_at_all() {
        let data = |length| Frame::data(Bytes::from(vec![b'x'; length]));
        let record = BodyRecord::default();
        record.add(Some(&data(3)));
        assert_eq!(record.whole(), None, "it may go on");
        record.add(Some(&data(2)));
        record.add(None);
        assert_eq!(record.whole().as_deref(), Some(b"xxxxx".as_slice()));
        let long = BodyRecord::default();
        long.add(Some(&data(MAX_RECORDED)));
        long.add(Some(&data(1)));
        long.add(None);
        assert_eq!(long.whole(), None, "longer than a mebibyte");
        let part = Bytes::from(vec![b'x'; 8192]).slice(..1);
        record.add(Some(&Frame::data(part.clone())));
        assert!(part.is_unique(), "the buffer that a part arrived in is not retained");
        let most = BodyRecord::default();
        most.add(Some(&data(MAX_RECORDED)));
        most.add(None);
        assert_eq!(most.whole().map(|body| body.len()), Some(MAX_RECORDED));
    }
}
