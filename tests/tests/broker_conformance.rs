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

mod service_bus {
    use distributed_events::ServiceBus;
    use tests::broker_conformance::Place;
    use tests::emulator::Emulator;

    struct OverAmqp(Emulator);

    impl Place for OverAmqp {
        type Broker = ServiceBus;

        // The Standard tier's 256 KiB for a message, with all that is around it.
        const LARGEST: usize = 230 * 1024;

        const SCHEDULES: bool = true;

        async fn fresh() -> Self {
            Self(Emulator::start(&super::entities(Self::SESSIONS)))
        }

        fn broker(&self) -> ServiceBus {
            ServiceBus::from_connection_string(&self.0.connection_string()).unwrap()
        }
    }

    tests::broker_conformance!(super::OverAmqp);
}

mod service_bus_http {
    use distributed_events::ServiceBusHttp;
    use tests::broker_conformance::Place;
    use tests::emulator::Emulator;

    struct OverHttp(Emulator);

    impl Place for OverHttp {
        type Broker = ServiceBusHttp;

        const LARGEST: usize = 230 * 1024;

        const SCHEDULES: bool = true;

        const SESSIONS: bool = false;

        async fn fresh() -> Self {
            Self(Emulator::start(&super::entities(Self::SESSIONS)))
        }

        fn broker(&self) -> ServiceBusHttp {
            ServiceBusHttp::from_connection_string(&self.0.http_connection_string()).unwrap()
        }
    }

    tests::broker_conformance!(super::OverHttp);
}

/// What the cases need of a namespace.
fn entities(sessions: bool) -> serde_json::Value {
    use serde_json::json;

    // What a case's subscription doesn't handle.
    let rule = |expression: &str| {
        json!([{ "Name": "handled", "Properties": { "FilterType": "Sql",
            "SqlFilter": { "SqlExpression": expression } } }])
    };
    let subscription = |name: &str, expression: &str| {
        let properties = json!({ "RequiresSession": sessions, "LockDuration": "PT5S",
            "DeadLetteringOnMessageExpiration": true });
        json!({ "Name": name, "Properties": properties, "Rules": rule(expression) })
    };
    let topic = |name: &str| {
        let subscriptions = json!([
            subscription("audit", "1 = 1"),
            subscription("journal", "sys.label = 'test.noted'"),
            subscription("billing", "1 = 1"),
            subscription("report", "sys.label <> 'test.noted'"),
        ]);
        json!({ "Name": name, "Properties": { "RequiresDuplicateDetection": true },
            "Subscriptions": subscriptions })
    };
    let topics = ["events", "invoices", "elsewhere"].map(topic);
    json!({ "Name": "sbemulatorns", "Queues": [], "Topics": topics })
}
