//! Part of the tour through the shop: the customer is told of the order by a mail, which leaves the notification service
//! over SMTP through two proxies and ends in the mailbox.

use anyhow::Result;
use weft_e2e_kind::ROLLOUT;
use weft_e2e_kind::space::Space;
use weft_e2e_kind::wait::eventually;

use crate::apps::is;
use crate::shop::Client;

/// Who has ordered is told of it, and sees that they were.
pub(crate) async fn the_customer_is_told(shop: &Space, visitor: &Client) -> Result<()> {
    tokio::try_join!(shop.in_service("notification"), shop.in_service("mailbox"))?;
    eventually("the mail is sent", ROLLOUT, || async {
        let told = is(visitor.get("/api/notifications?per_page=100").await, 200, "")?;
        let mail = told.body.contains("We have your order of") && told.body.contains("\"sent\"");
        if mail { Ok(()) } else { Err(told.told()) }
    })
    .await
}
