//! A backend in front of another one, which does some of the calls itself and passes the others on.

#[doc(hidden)]
pub use smmu_core::{GuestMemory, StreamId, command::Cfgi};

/// Inside an `impl Backend`: the methods that are named are those of the [`Backend`](crate::Backend) in
/// the field before the colon.
///
/// What is neither written nor named has the trait's default, and then the backend behind never hears of
/// it; `#[deny(clippy::missing_trait_methods)]` on the impl tells.
///
/// ```
/// use dispatch::{Backend, Batch, Rejected};
///
/// /// Says what it is called for.
/// struct Loud(dispatch::backend::Software);
///
/// impl Backend for Loud {
///     fn submit(&self, batch: &Batch) -> Result<(), Rejected> {
///         println!("{} requests", batch.len());
///         self.0.submit(batch)
///     }
///
///     dispatch::pass_on!(0: capabilities, costs, barrier, overdue, take_unanswered, forget, set_ats_check,
///         attach, configuration_changed, memory_changed, traffic_changed, traffic_settled, fail_closed);
/// }
///
/// let loud = Loud(dispatch::backend::Software::default());
/// assert_eq!(loud.capabilities(), loud.0.capabilities());
/// loud.fail_closed(None);
/// assert!(loud.0.is_closed(7.into()));
/// ```
#[macro_export]
macro_rules! pass_on {
    ($to:tt: $($method:ident),+ $(,)?) => {
        $($crate::pass_on!(@$to $method);)+
    };
    (@$to:tt capabilities) => {
        fn capabilities(&self) -> $crate::BackendCapabilities {
            self.$to.capabilities()
        }
    };
    (@$to:tt costs) => {
        fn costs(&self) -> $crate::Costs {
            self.$to.costs()
        }
    };
    (@$to:tt barrier) => {
        fn barrier(&self, waiter: $crate::WaiterId) -> $crate::Barrier {
            self.$to.barrier(waiter)
        }
    };
    (@$to:tt overdue) => {
        fn overdue(
            &self,
            waiter: $crate::WaiterId,
            waited: ::std::time::Duration,
        ) -> Option<::std::time::Duration> {
            self.$to.overdue(waiter, waited)
        }
    };
    (@$to:tt take_unanswered) => {
        fn take_unanswered(&self, waiter: $crate::WaiterId) -> bool {
            self.$to.take_unanswered(waiter)
        }
    };
    (@$to:tt forget) => {
        fn forget(&self, waiter: $crate::WaiterId) {
            self.$to.forget(waiter);
        }
    };
    (@$to:tt set_ats_check) => {
        fn set_ats_check(&self, checks: bool) {
            self.$to.set_ats_check(checks);
        }
    };
    (@$to:tt attach) => {
        fn attach(&self, wake: ::std::sync::Arc<dyn $crate::Wake>) {
            self.$to.attach(wake);
        }
    };
    (@$to:tt configuration_changed) => {
        fn configuration_changed(
            &self,
            change: &$crate::backend::pass_on::Cfgi,
            waiter: $crate::WaiterId,
        ) {
            self.$to.configuration_changed(change, waiter);
        }
    };
    (@$to:tt memory_changed) => {
        fn memory_changed(
            &self,
            memory: ::std::sync::Arc<dyn $crate::backend::pass_on::GuestMemory>,
        ) {
            self.$to.memory_changed(memory);
        }
    };
    (@$to:tt traffic_changed) => {
        fn traffic_changed(&self, traffic: &$crate::Traffic) {
            self.$to.traffic_changed(traffic);
        }
    };
    (@$to:tt traffic_settled) => {
        fn traffic_settled(&self) -> bool {
            self.$to.traffic_settled()
        }
    };
    (@$to:tt fail_closed) => {
        fn fail_closed(&self, stream: Option<$crate::backend::pass_on::StreamId>) {
            self.$to.fail_closed(stream);
        }
    };
}
