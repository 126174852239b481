//! JSON Web Tokens, checked beside a service.

use anyhow::{Result, ensure};
use weft_e2e_kind::runner::Cx;
use weft_e2e_kind::tokens::{AUDIENCE, ISSUER, Issuer};

use crate::apps::{expect, service, who};

/// 401 without or with a bad token, 403 with one of the wrong role, 200 with the right one; claims become headers.
pub(crate) async fn missing_wrong_and_right_tokens(cx: Cx) -> Result<()> {
    let issuer = Issuer::new()?;
    let rules = format!(
        "
  authentication:
    jwt:
    - issuer: {ISSUER}
      audiences: [{AUDIENCE}]
      jwks: {{inline: '{}'}}
      claimHeaders: {{sub: x-user-id, role: x-user-role}}
    required: true
  authorization:
    default: Deny
    rules: [{{name: admins, when: {{claims: {{role: [admin]}}}}}}]
",
        issuer.jwks()?
    );
    let mesh = cx.meshed().await?;
    mesh.apply(&service("echo", 1, &rules)).await?;
    let (caller, ()) = tokio::try_join!(mesh.caller("caller"), mesh.in_service("echo"))?;
    let with = async |token: &str| {
        let header = format!("authorization: Bearer {token}");
        caller.call(&["-H", &header, "-H", "x-user-role: forged", "http://echo/"]).await
    };

    expect(&caller.get("http://echo/").await?, 401, "jwt-missing", "without a token")?;
    expect(&with(&issuer.token("admin", -60)?).await?, 401, "jwt-expired", "with a token that has ended")?;
    let stranger = Issuer::new()?.token("admin", 300)?;
    expect(&with(&stranger).await?, 401, "jwt-signature", "with a token that someone else signed")?;
    expect(&with(&issuer.token("guest", 300)?).await?, 403, "forbidden", "with a token of the wrong role")?;

    let admitted = who(&with(&issuer.token("admin", 300)?).await?)?;
    let header = |name: &str| admitted.headers.get(name).map(String::as_str);
    ensure!(
        header("x-user-id") == Some("ada") && header("x-user-role") == Some("admin"),
        "the application got the headers {:?}",
        admitted.headers
    );
    ensure!(header("authorization").is_none(), "the token reached the application");
    Ok(())
}
