//! What becomes of an event: words for its user, by each channel they want, written down to be sent.
//!
//! [`Notifications::note`] reads top to bottom. Writing down happens once per event, in one transaction with the inbox;
//! sending is the business of `delivery`. So a mail server that is gone keeps no event waiting, and an event that makes
//! no sense is dead at once.

pub mod message;
pub mod preferences;
pub mod template;

use std::{sync::Arc, time::Duration};

use serde::Deserialize;
use shop_kit::{
    clock,
    errors::Problem,
    events::{Event, Failure, Handle},
    page::Page,
};
use tracing::{debug, info};
use uuid::Uuid;

use crate::{
    delivery::Wake,
    domain::{
        message::{Message, Notification},
        preferences::Preferences,
        template::Templates,
    },
    store::Store,
    users::{CallError, Users},
};

/// Longest time to look a user up.
const LOOK_UP: Duration = Duration::from_secs(5);

/// What users are told.
pub struct Notifications {
    /// Where it is kept.
    pub store: Store,
    /// Who knows the users.
    pub users: Users,
    /// The words.
    pub templates: Templates,
    /// Says that there is something to send.
    pub wake: Wake,
}

/// What every event that users are told of has.
#[derive(Deserialize)]
struct Addressed {
    user_id: Uuid,
}

impl Notifications {
    /// Writes down what the event's user is to be told, once however often the event comes.
    async fn note(&self, event: &Event) -> Result<(), Failure> {
        let Addressed { user_id } = Addressed::deserialize(&event.data)
            .map_err(|error| Failure::Reject(format!("the event says not whom it concerns: {error}")))?;
        let user = self.users.get(&event.cx(LOOK_UP), user_id).await.map_err(not_found)?;
        let words = self
            .templates
            .render(&event.stream, &event.data, &user.name)
            .map_err(|error| Failure::Reject(shop_kit::errors::chain(&error)))?;
        let preferences = self.store.preferences(user_id).await?.unwrap_or_default();
        let messages: Vec<Message> = preferences
            .recipients(&user.email)
            .map(|(means, recipient)| Message {
                event_id: event.id,
                means,
                recipient,
                subject: words.subject.clone(),
                text: words.text.clone(),
            })
            .collect();
        if self.store.note(event, user_id, &messages, clock::now()).await? {
            info!(user = %user_id, messages = messages.len(), "noted");
            self.wake.all();
        } else {
            debug!("noted before");
        }
        Ok(())
    }

    /// What a user was and is to be told, newest first, and how much it is in all.
    pub async fn list(&self, user: Uuid, page: Page) -> Result<(Vec<Notification>, u64), Problem> {
        Ok(self.store.list(user, page).await?)
    }

    /// How a user wants to be told.
    pub async fn preferences(&self, user: Uuid) -> Result<Preferences, Problem> {
        Ok(self.store.preferences(user).await?.unwrap_or_default())
    }

    /// Sets how a user wants to be told of what happens from now on.
    pub async fn prefer(&self, user: Uuid, preferences: Preferences) -> Result<Preferences, Problem> {
        let problems = preferences.problems();
        if !problems.is_empty() {
            return Err(Problem::invalid(problems));
        }
        self.store.prefer(user, &preferences).await?;
        Ok(preferences)
    }
}

/// Hears the events for them.
pub struct Listener(pub Arc<Notifications>);

impl Handle for Listener {
    async fn handle(&self, event: &Event) -> Result<(), Failure> {
        self.0.note(event).await
    }
}

fn not_found(error: CallError) -> Failure {
    match error {
        CallError::NoUser => Failure::Reject("there is no such user".into()),
        CallError::Failed(problem) => Failure::Retry(problem.into()),
    }
}
