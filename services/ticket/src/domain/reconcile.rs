//! Proves again and again that Redis and PostgreSQL agree about the events on sale, and puts right what does not.
//!
//! A seat that Redis gave away and PostgreSQL refused shows that they may not, and would be given away and refused again:
//! such an event is looked at soon.

use std::{collections::BTreeSet, time::Duration};

use shop_kit::{clock, errors::chain};
use tokio::{
    select,
    time::{Instant, MissedTickBehavior, interval_at, sleep},
};
use tracing::{error, warn};
use uuid::Uuid;

use super::{Error, Tickets};
use crate::{
    domain::sale::{Sale, Strategy},
    redis::{
        audit::{self, Kind, Report},
        rebuild::{When, rebuild},
    },
};

/// Least time between two looks at events that are doubted: a look stops their sale for a moment.
const REST: Duration = Duration::from_millis(500);

impl Tickets {
    /// Reconciles all events on sale, and those that are doubted in between, until dropped.
    pub async fn reconcile(&self, every: Duration) {
        let mut tick = interval_at(Instant::now() + every, every);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let compared = select! {
                _ = tick.tick() => self.reconcile_all().await,
                events = self.script.doubted() => self.reconcile_these(events).await,
            };
            if let Err(error) = compared {
                warn!(error = chain(&error), "redis and the database were not compared");
            }
            sleep(REST.min(every)).await;
        }
    }

    async fn reconcile_these(&self, numbers: BTreeSet<i32>) -> Result<(), Error> {
        for number in numbers {
            if let Some(sale) = self.catalogue.of_number(number).await? {
                self.repair(&sale).await?;
            }
        }
        Ok(())
    }

    async fn reconcile_all(&self) -> Result<(), Error> {
        for sale in self.store.sales_in_redis(clock::now()).await? {
            self.repair(&sale).await?;
        }
        Ok(())
    }

    /// Compares what both know of an event. Changes nothing.
    pub async fn compare(&self, event: Uuid) -> Result<Report, Error> {
        self.compared(&*self.sale(event).await?).await
    }

    /// Compares what both know of an event, and rebuilds the counter in Redis if they disagree.
    pub async fn reconcile_one(&self, event: Uuid) -> Result<Report, Error> {
        self.repair(&*self.sale(event).await?).await
    }

    async fn repair(&self, sale: &Sale) -> Result<Report, Error> {
        let mut report = self.compared(sale).await?;
        if report.agrees || sale.strategy == Strategy::Postgres {
            return Ok(report);
        }
        for difference in &report.differences {
            error!(
                event = %sale.id,
                kind = difference.kind.as_str(),
                of = ?difference.of,
                expected = difference.expected,
                found = difference.found,
                "redis and the database disagree"
            );
        }
        rebuild(&self.link, &self.store, sale, When::Wrong).await?;
        report.repaired = true;
        Ok(report)
    }

    async fn compared(&self, sale: &Sale) -> Result<Report, Error> {
        let (report, differences) = match sale.strategy {
            Strategy::Postgres => audit::compare_rows(&self.store, sale).await?,
            Strategy::Redis => audit::compare(&self.link, &self.store, sale).await?,
        };
        for difference in &differences {
            self.differences.with_label_values(&[Kind::as_str(difference.kind)]).inc();
        }
        Ok(report)
    }
}
