//! Tests that a response is parsed whole or rejected, however it is split.

use std::io::Write as _;

use flate2::{Compression, write::GzEncoder};
use proptest::prelude::*;

use super::*;

const NOW: UnixMs = UnixMs(1_772_359_260_000);

/// Parses the bytes of one connection in pieces of these sizes, and then its end.
fn read(bytes: &[u8], pieces: &[usize]) -> Result<(HttpResponse, KeepAlive, usize), ResponseError> {
    let mut reader = ResponseReader::new();
    let mut rest = bytes;
    let mut sizes = pieces.iter().copied().chain(std::iter::repeat(usize::MAX));
    while !rest.is_empty() {
        let size = sizes.next().unwrap().clamp(1, rest.len());
        let (now, later) = rest.split_at(size);
        if let ReadProgress::Done { taken } = reader.feed(now, NOW)? {
            let keep_alive = reader.keep_alive();
            let surplus = now.len() - taken + later.len();
            return Ok((reader.take_response().unwrap(), keep_alive, surplus));
        }
        rest = later;
    }
    reader.end()?;
    let keep_alive = reader.keep_alive();
    Ok((reader.take_response().unwrap(), keep_alive, 0))
}

#[track_caller]
fn check(bytes: &[u8], expected: Result<(u16, &[u8]), ResponseError>) {
    let whole = read(bytes, &[]);
    let shown = whole.as_ref().map(|(response, ..)| (response.head.status, &*response.body));
    assert_eq!(shown, expected.as_ref().map(|response| *response), "{:?}", bytes.escape_ascii());
    let bytewise = read(bytes, &vec![1; bytes.len()]);
    assert_eq!(bytewise, whole, "split into bytes: {:?}", bytes.escape_ascii());
}

#[test]
fn a_body_ends_at_its_delimiter() {
    check(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", Ok((200, b"{}")));
    check(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", Ok((200, b"")));
    check(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}{}", Ok((200, b"{}")));
    check(b"HTTP/1.1 200 OK\r\n\r\n{\"a\":1}", Ok((200, b"{\"a\":1}")));
    check(b"HTTP/1.1 204 No Content\r\n\r\nrest", Ok((204, b"")));
    check(b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n", Ok((302, b"")));
    let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let with = |body: &[u8]| [chunked, body].concat();
    check(&with(b"1\r\n{\r\n1\r\n}\r\n0\r\n\r\n"), Ok((200, b"{}")));
    check(&with(b"0002;ext=\"x\"\r\n{}\r\n0\r\nTrailer: x\r\n\r\n"), Ok((200, b"{}")));
    check(&with(b"2\n{}\n0\n\n"), Ok((200, b"{}")));
}

#[test]
fn a_compressed_body_is_decompressed_within_its_bound_and_otherwise_stays_as_received() {
    let gzip = |body: &[u8]| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(body).unwrap();
        encoder.finish().unwrap()
    };
    let response = |coding: &str, body: &[u8]| {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-encoding: {coding}\r\n");
        let head = format!("{head}Content-Length: {}\r\n\r\n", body.len());
        [head.as_bytes(), body].concat()
    };
    let longest = vec![b'x'; BODY_BYTES_MAX];
    for body in [b"{}", longest.as_slice()] {
        check(&response("gzip", &gzip(body)), Ok((200, body)));
        check(&response("identity", body), Ok((200, body)));
    }
    let too_long = gzip(&[&longest[..], b"x"].concat());
    check(&response("gzip", &too_long), Ok((200, &too_long)));
    check(&response("gzip", b"{}"), Ok((200, b"{}")));
    check(&response("lzma", b"{}"), Ok((200, b"{}")));
}

#[test]
fn interim_responses_are_skipped() {
    let interim = "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n";
    let last = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
    check(format!("{interim}{last}").as_bytes(), Ok((200, b"{}")));
    check(format!("{}{last}", interim.repeat(8)).as_bytes(), Ok((200, b"{}")));
    check(format!("{}{last}", interim.repeat(9)).as_bytes(), Err(ResponseError::Malformed));
    check(b"HTTP/1.1 101 Switching Protocols\r\n\r\n", Err(ResponseError::Malformed));
}

#[test]
fn a_truncated_response_is_an_error() {
    check(b"", Err(ResponseError::Cut));
    check(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n", Err(ResponseError::Cut));
    check(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{}", Err(ResponseError::Cut));
    let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    check(&[chunked, &b"2\r\n{}\r\n"[..]].concat(), Err(ResponseError::Cut));
    check(&[chunked, &b"2\r\n{}\r\n0\r\n"[..]].concat(), Err(ResponseError::Cut));
}

#[test]
fn malformed_http_is_rejected() {
    for bytes in [
        &b"<html>nonsense</html>\n\n"[..],
        b"\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 99999 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{}\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r{",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n 1\r\n{}\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFFFFFF\r\n",
    ] {
        check(bytes, Err(ResponseError::Malformed));
    }
}

#[test]
fn every_part_of_a_response_is_bounded() {
    let head = |filler: usize| format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(filler));
    check(head(RESPONSE_HEAD_BYTES_MAX).as_bytes(), Err(ResponseError::TooLong));
    check(&b"x".repeat(RESPONSE_HEAD_BYTES_MAX + 1), Err(ResponseError::TooLong));
    let headers = "X: y\r\n".repeat(RESPONSE_HEADERS_MAX + 1);
    check(format!("HTTP/1.1 200 OK\r\n{headers}\r\n").as_bytes(), Err(ResponseError::TooLong));
    let too_many = BODY_BYTES_MAX + 1;
    check(
        format!("HTTP/1.1 200 OK\r\nContent-Length: {too_many}\r\n\r\n").as_bytes(),
        Err(ResponseError::TooLong),
    );
    check(
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        Err(ResponseError::TooLong),
    );
    let endless = [&b"HTTP/1.1 200 OK\r\n\r\n"[..], &b"x".repeat(too_many)].concat();
    check(&endless, Err(ResponseError::TooLong));
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    check(format!("{chunked}FFFFFFFFFFFFFFFF\r\n").as_bytes(), Err(ResponseError::TooLong));
    check(format!("{chunked}1{}\r\n", ";x".repeat(200)).as_bytes(), Err(ResponseError::TooLong));
    let trailers = "X: y\r\n".repeat(RESPONSE_HEAD_BYTES_MAX);
    check(format!("{chunked}0\r\n{trailers}\r\n").as_bytes(), Err(ResponseError::TooLong));
}

#[test]
fn the_head_is_available_before_the_body() {
    let mut reader = ResponseReader::new();
    assert_eq!(reader.feed(b"HTTP/1.1 429 No\r\nRetry-After: 7\r\n", NOW), Ok(ReadProgress::More));
    assert_eq!(reader.head(), None);
    assert_eq!(reader.feed(b"Content-Length: 5\r\n\r\n", NOW), Ok(ReadProgress::More));
    let head = reader.head().unwrap();
    assert_eq!((head.status, head.retry_after), (429, Some(Duration::from_secs(7))));
}

#[track_caller]
fn check_keep_alive(response: &str, reusable: bool, idle: Option<u64>) {
    let (_, keep_alive, _) = read(response.as_bytes(), &[]).unwrap();
    let idle = idle.map(Duration::from_secs);
    assert_eq!(keep_alive, KeepAlive { reusable, idle }, "{response:?}");
}

#[test]
fn a_connection_is_reusable_only_if_the_response_allows_it() {
    let length = "Content-Length: 0\r\n\r\n";
    check_keep_alive(&format!("HTTP/1.1 200 OK\r\n{length}"), true, None);
    check_keep_alive(
        &format!("HTTP/1.1 200 OK\r\nKeep-Alive: max=9, timeout=5\r\n{length}"),
        true,
        Some(5),
    );
    check_keep_alive(&format!("HTTP/1.1 200 OK\r\nConnection: x, Close\r\n{length}"), false, None);
    check_keep_alive(&format!("HTTP/1.0 200 OK\r\n{length}"), false, None);
    check_keep_alive(&format!("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n{length}"), true, None);
    check_keep_alive("HTTP/1.1 200 OK\r\n\r\n{}", false, None);
    check_keep_alive(
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        false,
        None,
    );
}

#[test]
fn a_reader_is_reusable_after_each_response() {
    let mut reader = ResponseReader::new();
    for status in [200, 500] {
        let response = format!("HTTP/1.1 {status} X\r\nContent-Length: 2\r\n\r\n{{}}");
        assert_eq!(
            reader.feed(response.as_bytes(), NOW),
            Ok(ReadProgress::Done { taken: response.len() })
        );
        assert_eq!(reader.take_response().unwrap().head.status, status);
        assert_eq!(reader.take_response(), None);
    }
}

/// Bytes that resemble a response for most of their length.
fn almost_a_response() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop::sample::select(vec![
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 103 Early\r\n",
        "HTTP/1.0 403 No\r\n",
        "Content-Length: 5\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Connection: close\r\n",
        "Date: Sun, 01 Mar 2026 10:00:00 GMT\r\n",
        "\r\n",
        "\n",
        "\r",
        "5\r\nhello\r\n",
        "0\r\n\r\n",
        "hello",
        "a",
        ";",
        "\u{0}",
        "é",
    ]);
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat().into_bytes())
}

proptest! {
    #[test]
    fn splitting_the_bytes_does_not_change_the_result(
        bytes in prop_oneof![almost_a_response(), prop::collection::vec(any::<u8>(), 0..200)],
        pieces in prop::collection::vec(1_usize..40, 0..60),
    ) {
        prop_assert_eq!(read(&bytes, &pieces), read(&bytes, &[]));
    }

    #[test]
    fn a_body_is_read_unchanged(
        body in prop::collection::vec(any::<u8>(), 0..2_000),
        chunks in prop::collection::vec(1_usize..300, 1..20),
        pieces in prop::collection::vec(1_usize..400, 0..60),
    ) {
        let mut chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        let mut rest = &*body;
        for size in chunks.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (now, later) = rest.split_at((*size).min(rest.len()));
            chunked.extend(format!("{:x}\r\n", now.len()).bytes());
            chunked.extend(now);
            chunked.extend(b"\r\n");
            rest = later;
        }
        chunked.extend(b"0\r\n\r\n");
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        let counted = [head.as_bytes(), &body].concat();
        for bytes in [chunked, counted] {
            let (response, keep_alive, surplus) = read(&bytes, &pieces).unwrap();
            prop_assert_eq!(&response.body, &body);
            prop_assert!(keep_alive.reusable);
            prop_assert_eq!(surplus, 0);
        }
    }
}
