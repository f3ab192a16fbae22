//! What of HTTP an exporter understands: one request without a body, one answer (RFC 9112).

/// Bytes of a request, with all its headers.
pub(super) const MAX_REQUEST: usize = 4096;
/// Headers of a request; what Prometheus sends has six.
const MAX_HEADERS: usize = 48;

/// What a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) page: Page,
    /// Without the body of the answer.
    pub(super) head_only: bool,
}

/// What there is to ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Page {
    Index,
    PrometheusText,
    OpenMetrics,
    Json,
}

/// Why there is no answer but an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Malformed,
    NotFound,
    Method,
    TooLarge,
}

/// Looks at what has come of a request; `None` when more has to come.
pub(super) fn parse(bytes: &[u8]) -> Option<Result<Request, Refusal>> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(bytes) {
        Ok(httparse::Status::Complete(_)) => Some(understand(&request)),
        Ok(httparse::Status::Partial) if bytes.len() < MAX_REQUEST => None,
        Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
            Some(Err(Refusal::TooLarge))
        }
        Err(_) => Some(Err(Refusal::Malformed)),
    }
}

fn understand(request: &httparse::Request<'_, '_>) -> Result<Request, Refusal> {
    let target = request.path.unwrap_or_default();
    let path = target.split_once('?').map_or(target, |(path, _)| path);
    let page = match path {
        "/" => Page::Index,
        "/metrics" if accepts_openmetrics(request) => Page::OpenMetrics,
        "/metrics" => Page::PrometheusText,
        "/json" => Page::Json,
        _ => return Err(Refusal::NotFound),
    };
    match request.method {
        Some("GET") => Ok(Request { page, head_only: false }),
        Some("HEAD") => Ok(Request { page, head_only: true }),
        _ => Err(Refusal::Method),
    }
}

/// Whether the client names the format: those that do are Prometheus' own, and prefer it.
fn accepts_openmetrics(request: &httparse::Request<'_, '_>) -> bool {
    request.headers.iter().any(|header| {
        header.name.eq_ignore_ascii_case("accept")
            && std::str::from_utf8(header.value)
                .is_ok_and(|value| value.contains("application/openmetrics-text"))
    })
}

/// The answer, as it is sent.
pub(super) fn answer(kind: &str, body: &str, head_only: bool) -> Vec<u8> {
    response("200 OK", kind, "", if head_only { "" } else { body }, body.len())
}

/// The answer to what is not served.
pub(super) fn refusal(refusal: Refusal) -> Vec<u8> {
    let (status, more, why) = match refusal {
        Refusal::Malformed => ("400 Bad Request", "", "This is no HTTP request.\n"),
        Refusal::NotFound => ("404 Not Found", "", "There are /metrics and /json.\n"),
        Refusal::Method => {
            ("405 Method Not Allowed", "Allow: GET, HEAD\r\n", "Only GET and HEAD.\n")
        }
        Refusal::TooLarge => {
            ("431 Request Header Fields Too Large", "", "A request has 4 KiB and 48 headers.\n")
        }
    };
    response(status, "text/plain; charset=utf-8", more, why, why.len())
}

fn response(status: &str, kind: &str, more: &str, body: &str, len: usize) -> Vec<u8> {
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len}\r\n{more}\
         Cache-Control: no-store\r\nConnection: close\r\n\r\n{body}"
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn asked(text: &str) -> Option<Result<Page, Refusal>> {
        Some(parse(text.as_bytes())?.map(|request| request.page))
    }

    #[test]
    fn requests_are_understood_as_they_come() {
        let prometheus = "GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: \
                          application/openmetrics-text;version=1.0.0;q=0.8,text/plain;q=0.5\r\n\r\n";
        for end in 0..prometheus.len() {
            assert_eq!(asked(&prometheus[..end]), None, "{end}");
        }
        assert_eq!(asked(prometheus), Some(Ok(Page::OpenMetrics)));
        assert_eq!(asked("GET /metrics HTTP/1.0\r\n\r\n"), Some(Ok(Page::PrometheusText)));
        assert_eq!(asked("GET /json?pretty HTTP/1.1\r\n\r\n"), Some(Ok(Page::Json)));
        assert_eq!(asked("GET / HTTP/1.1\r\n\r\n"), Some(Ok(Page::Index)));
        assert_eq!(asked("GET /etc/passwd HTTP/1.1\r\n\r\n"), Some(Err(Refusal::NotFound)));
        assert_eq!(asked("POST /json HTTP/1.1\r\n\r\n"), Some(Err(Refusal::Method)));
        assert_eq!(asked("\x16\x03\x01\x02"), Some(Err(Refusal::Malformed)));
        let head = parse(b"HEAD /json HTTP/1.1\r\n\r\n").unwrap().unwrap();
        assert_eq!(head, Request { page: Page::Json, head_only: true });
    }

    #[test]
    fn what_is_too_long_is_refused_before_its_end() {
        let long = format!("GET /metrics HTTP/1.1\r\nX: {}", "x".repeat(MAX_REQUEST));
        assert_eq!(asked(&long[..MAX_REQUEST]), Some(Err(Refusal::TooLarge)));
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(MAX_HEADERS + 1));
        assert_eq!(asked(&many), Some(Err(Refusal::TooLarge)));
    }

    proptest! {
        /// What is decided stays so, whatever comes behind, and nothing is too strange for an answer.
        #[test]
        fn an_answer_stands_as_soon_as_there_is_one(
            begin in prop::sample::select(vec!["", "GET /metrics", "GET /json HTTP/1.1\r\n", "HEAD / "]),
            bytes in prop::collection::vec(any::<u8>(), 0..MAX_REQUEST),
            end in prop::sample::select(vec!["", "\r\n\r\n"]),
        ) {
            let all = [begin.as_bytes(), &bytes, end.as_bytes()].concat();
            let all = &all[..all.len().min(MAX_REQUEST)];
            for n in [all.len() / 3, all.len() / 2, all.len().saturating_sub(1)] {
                let early = parse(&all[..n]);
                prop_assert!(early.is_none() || early == parse(all));
            }
            prop_assert!(all.len() < MAX_REQUEST || parse(all).is_some());
        }
    }
}
