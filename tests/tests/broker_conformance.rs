//! The broker conformance suite on every broker there is.

mod local {
    use distributed_events::LocalBroker;
    use tests::broker_conformance::Place;

    struct Local(LocalBroker);

    impl Place for Local {
        type Broker = LocalBroker;

        async fn fresh() -> Self {
            Self(LocalBroker::new())
        }

        fn broker(&self) -> LocalBroker {
            self.0.clone()
        }
    }

    tests::broker_conformance!(super::Local);
}

mod memory {
    use tests::broker_conformance::Place;
    use tests::memory_broker::MemoryBroker;

    struct Memory(MemoryBroker);

    impl Place for Memory {
        type Broker = MemoryBroker;

        async fn fresh() -> Self {
            Self(MemoryBroker::new())
        }

        fn broker(&self) -> MemoryBroker {
            self.0.clone()
        }
    }

    tests::broker_conformance!(super::Memory);
}
