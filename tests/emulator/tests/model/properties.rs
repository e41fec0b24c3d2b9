//! Random histories against an oracle that knows only what every message went through.

use proptest::prelude::*;
use servicebus_emulator::model::{Input, Model, Time};

use crate::oracle::{Op, Oracle};

fn op() -> impl Strategy<Value = Op> {
    let delay = prop_oneof![3 => Just(0_u64), 1 => 1..100_000_u64];
    prop_oneof![
        6 => (0..3_usize, 1..4_usize, 0..3_usize, delay)
            .prop_map(|(target, count, session, delay)| Op::Send { target, count, session, delay }),
        6 => (0..2_usize, 0..3_usize, any::<bool>(), 1..4_u32)
            .prop_map(|(queue, receiver, delete, max)| Op::Receive { queue, receiver, delete: delete && max == 1, max }),
        4 => (0..3_usize, proptest::option::of(0..3_usize)).prop_map(|(receiver, session)| Op::Accept { receiver, session }),
        5 => (0..3_usize, 1..3_u32).prop_map(|(receiver, max)| Op::ReceiveInSession { receiver, max }),
        8 => (any::<usize>(), 0..5_usize).prop_map(|(pick, outcome)| Op::Settle { pick, outcome }),
        1 => any::<usize>().prop_map(|pick| Op::SettleStale { pick }),
        2 => any::<usize>().prop_map(|pick| Op::Renew { pick }),
        2 => (0..3_usize).prop_map(|receiver| Op::RenewSession { receiver }),
        2 => any::<usize>().prop_map(|pick| Op::ReceiveDeferred { pick }),
        1 => any::<usize>().prop_map(|pick| Op::Cancel { pick }),
        2 => (0..3_usize, any::<bool>()).prop_map(|(receiver, session)| Op::Close { receiver, session }),
        5 => prop_oneof![0..2000_u64, 30_000..70_000_u64].prop_map(|milliseconds| Op::Wait { milliseconds }),
        1 => Just(Op::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 250, failure_persistence: None, ..ProptestConfig::default() })]

    /// No message is lost or doubled, locks exclude each other, numbers increase, deliveries are counted: the oracle
    /// looks after each step.
    #[test]
    fn every_message_is_where_its_history_says(ops in proptest::collection::vec(op(), 1..120)) {
        let mut oracle = Oracle::new();
        for op in ops {
            oracle.step(op);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    /// Replaying the inputs that changed anything gives an equal model, also from a snapshot in the middle.
    #[test]
    fn replaying_gives_an_equal_model(
        ops in proptest::collection::vec(op(), 1..120),
        middle in 0.0..1.0_f64,
    ) {
        let mut oracle = Oracle::new();
        for op in ops {
            oracle.step(op);
        }
        let journal: Vec<Vec<u8>> =
            oracle.journal.iter().map(|entry| postcard::to_stdvec(entry).unwrap()).collect();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
        let middle = (journal.len() as f64 * middle) as usize;
        let mut model = Model::new(oracle.seed);
        for (index, entry) in journal.iter().enumerate() {
            if index == middle {
                model = postcard::from_bytes(&postcard::to_stdvec(&model).unwrap()).unwrap();
            }
            let (now, input): (Time, Input) = postcard::from_bytes(entry).unwrap();
            model.apply(now, input);
        }
        prop_assert!(model == oracle.model);
    }
}
