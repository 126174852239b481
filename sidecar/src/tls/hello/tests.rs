//! A `ClientHello` in every shape it may come in.

use std::sync::Arc;

use proptest::prelude::*;
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use super::*;

/// What a client sends first for this name, followed by something else that was in the same packet.
fn client_hello(name: &str, after: &[u8]) -> Vec<u8> {
    let mut config = ClientConfig::builder_with_provider(weft_api::tls::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"imap".to_vec()];
    let mut client = ClientConnection::new(Arc::new(config), name.to_owned().try_into().unwrap()).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes.extend_from_slice(after);
    bytes
}

/// A message that is whole, and the server name in it.
type Whole = (Hello, Option<String>);

/// What bytes that come in these pieces ask for.
fn read(pieces: &[&[u8]]) -> Result<Option<Whole>, HelloError> {
    let mut hello = Hello::default();
    for piece in pieces {
        hello.read.extend_from_slice(piece);
        if let Some(accepted) = hello.look()? {
            let name = accepted.client_hello().server_name().map(str::to_owned);
            return Ok(Some((hello, name)));
        }
    }
    Ok(None)
}

/// The same message in TLS records of at most that size.
fn in_records(bytes: &[u8], size: usize) -> Vec<u8> {
    let (head, message) = bytes.split_at(5);
    let record = |part: &[u8]| {
        let length = u16::try_from(part.len()).unwrap().to_be_bytes();
        [&head[..3], &length, part].concat()
    };
    message.chunks(size).flat_map(record).collect()
}

#[test]
fn the_server_name_is_read_and_every_byte_kept() {
    let bytes = client_hello("Shop.Example", b"");
    let (hello, name) = read(&[&bytes]).unwrap().unwrap();
    assert_eq!(name.as_deref(), Some("shop.example"), "rustls' client folds it");
    assert_eq!(hello.read, bytes);
    assert!(hello.rest().is_empty());
}

#[test]
fn an_address_instead_of_a_name_is_no_server_name() {
    let (_, name) = read(&[&client_hello("192.0.2.1", b"")]).unwrap().unwrap();
    assert_eq!(name, None);
}

#[test]
fn what_is_no_tls_is_refused_with_an_alert() {
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"SSH-2.0-OpenSSH_9.9\r\n", &[22, 3, 1, 0, 4, 2, 0, 0, 0]] {
        let error = read(&[bytes]).err().unwrap();
        assert!(matches!(error, HelloError::Broken { .. }), "{error:?}");
        let [kind, _, _, 0, 2, 2, _] = error.alert() else { panic!("no alert: {error:?}") };
        assert_eq!(*kind, 21);
    }
}

#[test]
fn a_hello_that_does_not_end_is_refused_at_the_bound() {
    // A record of 16 KiB with the beginning of a message of 64 KiB, and the next record.
    let record = [&[22, 3, 1, 64, 0][..], &[1, 0, 255, 255], &vec![0; (16 << 10) - 4]].concat();
    let mut hello = Hello::default();
    let mut error = None;
    for byte in record.chunks(100) {
        let byte = &byte[..byte.len().min(hello.room())];
        hello.read.extend_from_slice(byte);
        match hello.look() {
            Ok(None) => {}
            Ok(Some(_)) => panic!("it has not ended"),
            Err(found) => {
                error = Some(found);
                break;
            }
        }
    }
    assert!(matches!(error, Some(HelloError::TooLarge)), "{error:?}");
    assert_eq!((hello.read.len(), error.unwrap().alert()), (MAX_HELLO, &DECODE_ERROR[..]));
}

proptest! {
    #[test]
    fn any_split_gives_the_same_name_and_the_same_bytes(
        cuts in prop::collection::vec(0_usize..600, 0..12),
        size in 1_usize..600,
        after in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let mut bytes = in_records(&client_hello("a.shop.example", b""), size);
        let whole = bytes.len();
        bytes.extend_from_slice(&after);
        let mut at: Vec<usize> = cuts.into_iter().filter(|cut| *cut < bytes.len()).collect();
        at.extend([0, bytes.len()]);
        at.sort_unstable();
        let pieces: Vec<&[u8]> = at.windows(2).map(|ends| &bytes[ends[0]..ends[1]]).collect();
        let (hello, name) = read(&pieces).unwrap().unwrap();
        prop_assert_eq!(name.as_deref(), Some("a.shop.example"));
        prop_assert!(hello.read.len() >= whole, "it is whole");
        prop_assert_eq!(&hello.read[..], &bytes[..hello.read.len()]);
        let (read, looked_at) = (hello.read.clone(), hello.looked_at);
        prop_assert_eq!(&hello.rest()[..], &read[looked_at..]);
    }

    #[test]
    fn any_bytes_are_refused_or_waited_for_within_bounds(
        bytes in prop::collection::vec(any::<u8>(), 0..2000),
        head in prop::sample::select(vec![&[][..], &[22, 3, 1], &[22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3]]),
        piece in 1_usize..2000,
    ) {
        let bytes = [head, &bytes].concat();
        let pieces: Vec<&[u8]> = bytes.chunks(piece).collect();
        if let Ok(Some((hello, _))) = read(&pieces) {
            prop_assert!(hello.read.len() <= MAX_HELLO);
            prop_assert!(bytes.starts_with(&hello.read));
        }
    }
}
