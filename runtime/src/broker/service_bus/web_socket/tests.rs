use std::collections::VecDeque;

use futures_util::FutureExt;

use super::*;

/// A peer whose bytes come in given pieces, and which keeps what it is sent, a few bytes at a time.
#[derive(Default)]
struct Peer {
    pieces: VecDeque<Vec<u8>>,
    sent: Vec<u8>,
    at_a_time: usize,
}

impl AsyncRead for Peer {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, room: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        let Some(mut piece) = self.pieces.pop_front() else { return Poll::Ready(Ok(())) };
        let rest = piece.split_off(piece.len().min(room.remaining()));
        room.put_slice(&piece);
        if !rest.is_empty() {
            self.pieces.push_front(rest);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Peer {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        let count = bytes.len().min(self.at_a_time);
        self.sent.extend(&bytes[..count]);
        Poll::Ready(Ok(count))
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// After a handshake, with these bytes to come, in pieces of this size.
fn socket(bytes: &[u8], size: usize) -> WebSocket<Peer> {
    let pieces = bytes.chunks(size).map(<[u8]>::to_vec).collect();
    WebSocket {
        stream: Peer { pieces, sent: Vec::new(), at_a_time: 7 },
        input: vec![0; BUFFER].into(),
        start: 0,
        end: 0,
        awaited: Awaited::Header,
        output: Vec::new(),
        taken: 0,
        writer_waits: false,
        closing: false,
    }
}

/// Reads to the end.
fn read(socket: &mut WebSocket<Peer>) -> Result<Vec<u8>> {
    let mut all = Vec::new();
    loop {
        let mut bytes = [0; 100];
        let mut room = ReadBuf::new(&mut bytes);
        poll_fn(|cx| Pin::new(&mut *socket).poll_read(cx, &mut room)).now_or_never().expect("never waits")?;
        if room.filled().is_empty() {
            return Ok(all);
        }
        all.extend(room.filled());
    }
}

/// A frame of a server's.
fn served(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = header(0, payload.len());
    frame[0] = first;
    frame[1] &= 0x7f;
    frame.extend(payload);
    frame
}

/// What a client's frame says.
fn unmasked(frame: &[u8], header: usize) -> Vec<u8> {
    let (mask, payload) = frame[header..].split_at(4);
    payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect()
}

#[test]
fn frames_are_read_however_they_are_cut() {
    let long = vec![b'x'; 70_000];
    let mut bytes = [
        served(0x02, b"be"),
        served(0x00, b"gin"),
        served(0x89, b"ping"),
        served(0x80, &[b'y'; 300]),
        served(0x82, b""),
        served(0x8a, b"pong"),
        served(0x82, &long),
    ]
    .concat();
    bytes.extend(served(0x88, &1000_u16.to_be_bytes()));
    bytes.extend(served(0x82, b"after the end"));
    for size in [1, 2, 3, 5, 125, 126, 4096, BUFFER] {
        let mut socket = socket(&bytes, size);
        let expected = [&b"begin"[..], &[b'y'; 300], &long].concat();
        assert!(read(&mut socket).unwrap() == expected, "in pieces of {size}");
        let pong = &socket.stream.sent;
        assert_eq!((pong[0], pong[1], unmasked(pong, 2)), (0x8a, 0x84, b"ping".to_vec()));
    }
}

#[test]
fn what_is_written_comes_in_masked_frames() {
    for (length, header) in [(1, 2), (125, 2), (126, 4), (65_535, 4), (65_536, 10)] {
        let (mut socket, bytes) = (socket(b"", 1), vec![b'z'; length]);
        let written = poll_fn(|cx| Pin::new(&mut socket).poll_write(cx, &bytes)).now_or_never();
        assert_eq!(written.unwrap().unwrap(), length);
        poll_fn(|cx| Pin::new(&mut socket).poll_flush(cx)).now_or_never().unwrap().unwrap();
        let sent = &socket.stream.sent;
        assert_eq!((sent[0], sent[1] & 0x80), (0x82, 0x80), "{length}");
        assert!(unmasked(sent, header) == bytes, "{length}");
        assert!(length < 126 || !sent.windows(100).any(|part| part == [b'z'; 100]), "it is masked");
    }
}

#[test]
fn a_stream_that_breaks_off_has_not_ended() {
    for (bytes, ends) in [
        (served(0x82, b"whole"), true),
        (served(0x88, b""), true),
        (served(0x82, b"whole")[..4].to_vec(), false),
        (vec![0x82], false),
        (served(0x89, b"ping")[..3].to_vec(), false),
    ] {
        let read = read(&mut socket(&bytes, 1));
        assert_eq!(read.is_ok(), ends, "{bytes:?}: {read:?}");
    }
}

#[test]
fn what_no_server_sends_is_refused() {
    let mut masked = served(0x82, b"masked");
    masked[1] |= 0x80;
    for bytes in [
        masked,
        served(0x81, b"text"),
        served(0xc2, b"compressed"),
        served(0x09, b"a part of a ping"),
        served(0x89, &[0; 126]),
        served(0x83, b"unknown"),
    ] {
        assert_eq!(read(&mut socket(&bytes, 3)).unwrap_err().kind(), ErrorKind::InvalidData, "{bytes:?}");
    }
}

#[test]
fn the_answer_must_agree() {
    // The key and the answer of the standard's own example.
    let key = "dGhlIHNhbXBsZSBub25jZQ==";
    let answer = "HTTP/1.1 101 Switching Protocols\r\nupgrade: WebSocket\r\nConnection: Upgrade\r\n\
                  Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: AMQP\r\n\r\n";
    check(answer.as_bytes(), key).unwrap();
    for (from, to, said) in [
        ("101 Switching Protocols", "403 Ip has been prevented", "`HTTP/1.1 403 Ip has been prevented`"),
        ("WebSocket", "h2c", "something else"),
        ("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", key, "something else"),
        ("AMQP", "mqtt", "something else"),
    ] {
        let error = check(answer.replacen(from, to, 1).as_bytes(), key).unwrap_err();
        assert!(error.to_string().contains(said), "{error}");
    }
}

#[test]
fn frames_that_come_with_the_answer_are_kept() {
    let mut bytes = b"HTTP/1.1 101\r\n\r\n".to_vec();
    let length = bytes.len();
    bytes.extend(served(0x82, b"at once"));
    let mut socket = socket(&bytes, 5);
    assert_eq!(socket.answer().now_or_never().unwrap().unwrap(), length);
    socket.start = length;
    assert_eq!(read(&mut socket).unwrap(), b"at once");
    let endless = vec![b'h'; 2 * LONGEST_ANSWER];
    assert!(self::socket(&endless, 1000).answer().now_or_never().unwrap().is_err());
}

#[test]
fn its_debug_form_shows_nothing_of_what_passes() {
    let mut socket = socket(b"", 1);
    socket.frame(BINARY, b"canary");
    let shown = format!("{socket:?}");
    assert!(shown.len() < 60, "{shown}");
}
