use bytes::BytesMut;
use proptest::prelude::*;

use super::super::encode;
use super::*;

fn encoded(value: &Value) -> BytesMut {
    let mut out = BytesMut::new();
    encode::value(&mut out, value);
    out
}

fn any_simple() -> impl Strategy<Value = Simple> {
    prop_oneof![
        Just(Simple::Null),
        any::<bool>().prop_map(Simple::Bool),
        any::<u8>().prop_map(Simple::UByte),
        any::<u16>().prop_map(Simple::UShort),
        prop_oneof![Just(0), 1..300u32, any::<u32>()].prop_map(Simple::UInt),
        prop_oneof![Just(0), 1..300u64, any::<u64>()].prop_map(Simple::ULong),
        any::<i8>().prop_map(Simple::Byte),
        any::<i16>().prop_map(Simple::Short),
        any::<i32>().prop_map(Simple::Int),
        any::<i64>().prop_map(Simple::Long),
        (-1e9f32..1e9).prop_map(Simple::Float),
        (-1e9f64..1e9).prop_map(Simple::Double),
        any::<char>().prop_map(Simple::Char),
        any::<i64>().prop_map(Simple::Timestamp),
        any::<u128>().prop_map(|bits| Simple::Uuid(Uuid::from_u128(bits))),
        proptest::collection::vec(any::<u8>(), 0..300).prop_map(|bytes| Simple::Binary(bytes.into())),
        ".{0,90}".prop_map(Simple::String),
        "[a-z:-]{0,300}".prop_map(Simple::Symbol),
    ]
}

fn any_value() -> impl Strategy<Value = Value> {
    any_simple().prop_map(Value::Simple).prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::List),
            proptest::collection::vec((inner.clone(), inner.clone()), 0..4).prop_map(Value::Map),
            proptest::collection::vec(any::<i64>(), 0..4).prop_map(|all| Value::Array(
                all.into_iter().map(|n| Value::Simple(Simple::Long(n))).collect()
            )),
            (any::<u64>(), inner).prop_map(|(code, value)| Value::described(code, value)),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read(value in any_value()) {
        let bytes = encoded(&value);
        let mut reader = Reader::new(&bytes);
        prop_assert_eq!(reader.value().unwrap(), value);
        prop_assert!(reader.rest().is_empty());
        prop_assert_eq!(Reader::new(&bytes).span().unwrap(), &bytes[..]);
    }

    #[test]
    fn what_breaks_off_is_an_error(value in any_value(), cut in any::<prop::sample::Index>()) {
        let bytes = encoded(&value);
        let part = &bytes[..cut.index(bytes.len())];
        prop_assert!(Reader::new(part).value().is_err());
        prop_assert!(Reader::new(part).span().is_err());
    }

    #[test]
    fn garbage_is_a_value_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        let _any = Reader::new(&bytes).value();
        let _any = Reader::new(&bytes).span();
        let _any = Reader::new(&bytes).descriptor();
    }

    /// serde_amqp is what this crate's other door writes with: the two must understand each other.
    #[test]
    fn another_implementation_reads_the_same(value in any_simple()) {
        prop_assume!(!matches!(value, Simple::Null));
        let bytes = encoded(&Value::Simple(value.clone()));
        let other: serde_amqp::Value = serde_amqp::from_slice(&bytes).unwrap();
        let back = serde_amqp::to_vec(&other).unwrap();
        prop_assert_eq!(Reader::new(&back).value().unwrap(), Value::Simple(value));
    }
}

#[test]
fn sizes_and_counts_that_lie_cost_nothing() {
    for lie in [
        &[0xd0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff][..],
        &[0xd0, 0, 0, 0, 4, 0xff, 0xff, 0xff, 0xff],
        &[0xd1, 0, 0, 0, 4, 0xff, 0xff, 0xff, 0xfe],
        &[0xc1, 3, 1, 0x40, 0x40],
        // Four thousand million times nothing.
        &[0xf0, 0, 0, 0, 5, 0xff, 0xff, 0xff, 0xff, 0x40],
        &[0xb0, 0xff, 0xff, 0xff, 0xff, 1],
        &[0xa1, 2, 0xff, 0xfe],
        &[0x73, 0, 0x11, 0, 0],
        &[0x3f],
    ] {
        assert!(Reader::new(lie).value().is_err(), "{lie:x?}");
    }
}

/// A frame of 64 KiB must not become a gigabyte.
#[test]
fn few_bytes_are_few_values() {
    let nothings = [0xf0, 0, 0, 0, 5, 0, 0, 0x10, 0, 0x40];
    let list = |count: u8| {
        let inner = nothings.repeat(count.into());
        [&[0xd0, 0, 0, 0, u8::try_from(inner.len() + 4).unwrap(), 0, 0, 0, count][..], &inner].concat()
    };
    assert!(Reader::new(&list(1)).value().is_ok());
    assert!(Reader::new(&list(2)).value().is_err(), "4096 values of no bytes are for all arrays together");

    let described = |length: u8| {
        let name = [&[0xa3, length][..], &vec![b'a'; length.into()]].concat();
        let inner = [&[2, 0][..], &name, &[0x50, 1, 2]].concat();
        [&[0xe0, u8::try_from(inner.len()).unwrap()][..], &inner].concat()
    };
    assert!(Reader::new(&described(62)).value().is_ok());
    assert!(Reader::new(&described(63)).value().is_err(), "each element has a copy of it");
    let of_many = [&[0xe0, 15, 2, 0][..], &nothings, &[0x50, 1, 2]].concat();
    assert!(Reader::new(&of_many).value().is_err(), "and of all that it is made of");
}

#[test]
fn nesting_ends() {
    let mut list = vec![0x45];
    for _ in 0..40 {
        list = [&[0xd0][..], &u32::try_from(list.len() + 4).unwrap().to_be_bytes(), &[0, 0, 0, 1], &list]
            .concat();
    }
    assert_eq!(Reader::new(&list).value(), Err(Malformed("a value is nested too deeply")));
    assert_eq!(
        Reader::new(&[0; 100_000]).span(),
        Err(Malformed("a value is nested too deeply")),
        "descriptors of descriptors"
    );
}

#[test]
fn numbers_of_any_width_are_numbers() {
    for (bytes, number) in [
        (&[0x43][..], 0),
        (&[0x52, 7], 7),
        (&[0x54, 7], 7),
        (&[0x55, 7], 7),
        (&[0x50, 7], 7),
        (&[0x60, 0, 7], 7),
        (&[0x80, 0, 0, 0, 0, 0, 0, 0, 7], 7),
        (&[0x83, 0, 0, 0, 0, 0, 0, 0, 7], 7),
    ] {
        assert_eq!(Reader::new(bytes).value().unwrap().u32(), Some(number), "{bytes:x?}");
    }
    assert_eq!(Reader::new(&[0x54, 0xff]).value().unwrap().u32(), None);
    assert_eq!(Reader::new(&[0x54, 0xff]).value().unwrap().integer(), Some(-1));
}
