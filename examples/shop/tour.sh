#!/usr/bin/env bash
# A tour of the shop, to be run while `weft run examples/shop` runs in another terminal, or where charts/shop is installed.
#
# Every step prints the request, the answer, and what to look at, and checks what it says: the script ends with 1 when
# something is not as promised. It needs curl and the usual text tools, nothing else.
#
#   examples/shop/tour.sh [URL of the gateway, default http://127.0.0.1:8080]
#   examples/shop/tour.sh --cluster [NAMESPACE, default shop [URL of the gateway, default: kubectl forwards a port to it]]
#
# WEFT=/path/to/weft where the weft command is neither on PATH nor in target/. In a cluster it needs kubectl too.
set -euo pipefail

cluster=false
if [ "${1:-}" = --cluster ]; then
  cluster=true namespace=${2:-shop}
  shift "$(($# < 2 ? $# : 2))"
  gateway=${1:-${GATEWAY:-}}
else
  gateway=${1:-${GATEWAY:-http://127.0.0.1:8080}}
fi
here=$(cd "$(dirname "$0")" && pwd)
# Where nothing else is said, `weft` is to talk of the run beside this script, or else of the newest.
if [ -z "${WEFT_STATE:-}" ] && [ -S "$here/.weft/control.sock" ]; then export WEFT_STATE=$here/.weft; fi

# ---------------------------------------------------------------------------------------------------------- how it talks

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
  bold=$'\e[1m' dim=$'\e[2m' green=$'\e[32m' red=$'\e[31m' cyan=$'\e[36m' plain=$'\e[0m'
else
  bold='' dim='' green='' red='' cyan='' plain=''
fi
number=0
failures=0

step() { number=$((number + 1)); printf '\n%s%d. %s%s\n' "$bold" "$number" "$1" "$plain"; }
look() { printf '   %s%s%s\n' "$dim" "$*" "$plain"; }
good() { printf '   %s✓ %s%s\n' "$green" "$*" "$plain"; }
bad() { printf '   %s✗ %s%s\n' "$red" "$*" "$plain"; failures=$((failures + 1)); }
stop_here() { printf '\n%s%s%s\n' "$red" "$*" "$plain" >&2; exit 1; }

# call METHOD PATH [curl options…]: sends a request and prints it with its answer. Leaves $status, $headers and $body.
call() {
  local method=$1 path=$2 answer
  shift 2
  printf '   %s> %s %s%s%s\n' "$cyan" "$method" "$gateway$path" "$(shown_options "$@")" "$plain"
  answer=$(curl --silent --show-error --max-time 15 --include --request "$method" "$gateway$path" "$@" | tr -d '\r') ||
    stop_here "The gateway at $gateway does not answer. $not_running"
  # What follows the last header block is the body.
  headers=${answer%%$'\n\n'*}
  body=${answer#*$'\n\n'}
  status=$(printf '%s\n' "$headers" | sed -n '1s/^HTTP\/[^ ]* \([0-9]*\).*/\1/p')
  printf '   < %s\n' "$(printf '%s\n' "$headers" | head -n 1)"
  printf '%s\n' "$headers" | { grep -iE '^(x-weft-|x-served-by|www-authenticate|x-request-id)' || true; } | sed 's/^/   < /'
  [ -z "$body" ] || printf '   < %s\n' "$(printf '%s' "$body" | tr -d '\n' | sed 's/\(token":"[^"]\{12\}\)[^"]*/\1…/' | cut -c 1-300)"
}

# The options of a request as they are worth showing: data and headers, tokens cut short.
shown_options() {
  local text=''
  while [ $# -gt 0 ]; do
    case $1 in
    --json) text+=" '$(printf '%s' "$2" | sed 's/\("password":"\)[^"]*/\1…/')'" && shift ;;
    --header) text+=" [$(printf '%s' "$2" | sed 's/\(Bearer .\{12\}\).*/\1…/')]" && shift ;;
    esac
    shift
  done
  printf '%s' "$text"
}

expect_status() {
  if [ "$status" = "$1" ]; then good "$1: $2"; else bad "expected $1 ($2), got ${status:-no answer}"; fi
}

# expect_in "TEXT" "PATTERN" "what it shows"
expect_in() {
  if printf '%s\n' "$1" | grep -qiE -- "$2"; then good "$3"; else bad "expected to find /$2/ ($3)"; fi
}

# field NAME: the first value of that name in the JSON body, text or number.
field() { printf '%s' "$body" | sed -n "s/.*\"$1\":\"\{0,1\}\([^\",}]*\).*/\1/p" | head -n 1; }

# wait_for SECONDS "what" command…: repeats a command until it succeeds.
wait_for() {
  local left=$(($1 * 4)) what=$2
  shift 2
  until "$@"; do
    left=$((left - 1))
    if [ "$left" -le 0 ]; then bad "waited in vain for: $what" && return 0; fi
    sleep 0.25
  done
  good "$what"
}

find_weft() {
  local root=$here/../..
  for candidate in "${WEFT:-}" "$(command -v weft || true)" "$root/target/release/weft" "$root/target/debug/weft"; do
    if [ -n "$candidate" ] && [ -x "$candidate" ]; then printf '%s' "$candidate" && return; fi
  done
  stop_here "The weft command is not on PATH and not built; set WEFT=/path/to/weft."
}
weft=$(find_weft)

# ------------------------------------------------------------------------------------- what differs in a cluster, and not

# Prints what the instances of a service, or of the gateway `public`, log: logs_of NAME apps|proxies.
# Runs or ends product: stop_product, start_product. The password of the admin: admin_password.
# What the gateway's proxy says of its breakers: gateway_breakers. What the mesh says of that for product: shown_breaker.

if "$cluster"; then
  not_running="Is the shop installed in the namespace $namespace, and in the mesh? See: kubectl get msvc,pods -n $namespace"
  k() { kubectl --namespace "$namespace" "$@"; }
  selector() { if [ "$1" = public ]; then echo weft.dev/gateway=public; else echo "weft.dev/microservice=$1"; fi; }
  logs_of() { k logs --selector "$(selector "$1")" --container "$([ "$2" = apps ] && echo "$1" || echo weft-proxy)" --tail=-1; }
  replicas=$(k get microservice product --output 'jsonpath={.spec.workload.replicas}')
  scale_product() {
    k patch microservice product --type merge --patch "{\"spec\":{\"workload\":{\"replicas\":$1}}}"
  }
  stop_command="kubectl patch microservice product … replicas: 0"
  start_command="kubectl patch microservice product … replicas: ${replicas:-1}"
  stop_product() {
    scale_product 0
    k wait --for=delete pod --selector "$(selector product)" --timeout=90s >/dev/null 2>&1 || true # they may be gone already
  }
  start_product() { scale_product "${replicas:-1}"; }
  gateway_breakers() {
    "$weft" proxy breakers "$(k get pods --selector "$(selector public)" --output 'jsonpath={.items[0].metadata.name}')" --namespace "$namespace"
  }
  status_command="kubectl get msvc product"
  shown_breaker() { k get microservice product; }
  is_open() { [ "$(k get microservice product --output 'jsonpath={.status.breaker.state}' | tr 'a-z-' 'A-Z_')" = OPEN ]; }
  all_logged() { [ "$(kubectl get mesh default --output 'jsonpath={.spec.accessLog}')" = All ]; }
  admin_password() { k get secret shop-admin --output 'jsonpath={.data.password}' | base64 --decode; }
  afterwards="kubectl get msvc -n $namespace, weft status -n $namespace"
  patience=120
  if [ -z "$gateway" ]; then
    forwarded=$(mktemp)
    k port-forward service/public :8080 >"$forwarded" &
    trap 'kill %1 2>/dev/null; rm -f "$forwarded"' EXIT
    for _ in $(seq 40); do
      gateway=$(sed -n 's/^Forwarding from \(127[^ ]*\).*/http:\/\/\1/p' "$forwarded")
      [ -z "$gateway" ] || break
      sleep 0.25
    done
    [ -n "$gateway" ] || stop_here "kubectl forwards no port to the gateway. $not_running"
  fi
else
  not_running="Is 'weft run $here' running?"
  logs_of() { "$weft" logs "$1" "--$2"; }
  stop_command="weft stop product" start_command="weft start product"
  stop_product() { "$weft" stop product; }
  start_product() { "$weft" start product; }
  gateway_breakers() { "$weft" proxy breakers public-0; }
  status_command="weft status"
  shown_breaker() { "$weft" status | grep -E '^(CALLER|public-0 +shop/product:http)' || true; }
  is_open() { "$weft" status | grep -qE '^public-0 +shop/product:http +OPEN'; }
  all_logged() { :; } # mesh.yaml says so
  admin_password() { printf 'the-demo-password'; } # weft.yaml says so
  afterwards="weft status, weft logs order"
  patience=30
fi

# The breaker of the gateway for product: the proxy says it at once, the mesh with its next report.
breaker_of_gateway() {
  gateway_breakers | tr -d ' \n' | tr '{' '\n' | grep '"destination":"[a-z0-9-]*/product:http"' |
    grep -oiE '"state":"[a-z_-]+"' | sed 's/.*:"\(.*\)"/\1/' | tr 'a-z-' 'A-Z_'
}
breaker_is() { [ "$(breaker_of_gateway || true)" = "$1" ]; }
# logged "PATTERN" NAME apps|proxies
logged() { logs_of "$2" "$3" | grep -- "$1" >/dev/null; }

# The flash sale: three seats, one customer, and what is refused.
tickets_chapter() {
  local event ticket customer=(--header "Authorization: Bearer $token") admin key
  step "Put tickets on sale, as an admin"
  call POST /api/tickets/events "${customer[@]}" --json "$(concert)"
  expect_status 403 "a customer may not"
  wait_for 5 "the log of ticket's proxies names the rule: customers-add-no-events" \
    logged customers-add-no-events ticket proxies
  call POST /api/users/login --json "{\"email\":\"admin@shop.example\",\"password\":\"$(admin_password)\"}"
  expect_status 200 "the account that was made at the first start"
  admin=(--header "Authorization: Bearer $(field access_token)")
  call POST /api/tickets/events "${admin[@]}" --json "$(concert)"
  expect_status 201 "three seats, at most two per customer, counted by a script in Redis"
  event=$(field id)

  step "Buy two of three seats"
  call GET "/api/tickets/events/$event"
  expect_status 200 "anyone may look at an event"
  call POST "/api/tickets/events/$event/purchases" --json '{"method":"tok_ok"}'
  expect_status 401 "and nobody buys without a token"
  key="tour-$RANDOM-$$"
  call POST "/api/tickets/events/$event/purchases" "${customer[@]}" --header "Idempotency-Key: $key" \
    --json '{"quantity":2,"method":"tok_ok"}'
  expect_status 201 "held in Redis, written to PostgreSQL, paid by the payment service, sold"
  ticket=$(field id)
  call POST "/api/tickets/events/$event/purchases" "${customer[@]}" --header "Idempotency-Key: $key" \
    --json '{"quantity":2,"method":"tok_ok"}'
  expect_in "$body" "\"id\": *\"$ticket\"" "the same request again is the same ticket, paid once"
  call POST "/api/tickets/events/$event/purchases" "${customer[@]}" --json '{"method":"tok_ok"}'
  expect_in "$body" 'limit-reached' "one more is more than one customer may have"
  call POST "/api/tickets/events/$event/purchases" "${admin[@]}" --json '{"quantity":2,"method":"tok_ok"}'
  expect_in "$body" 'sold-out' "and two more than there are left"

  step "Cancel them, and let Redis and PostgreSQL prove that they agree"
  call POST "/api/tickets/$ticket/cancel" "${customer[@]}"
  expect_in "$status" '^20[02]$' "the money goes back first, then the seats"
  wait_for 15 "all three seats are there again" seats_left "$event" 3
  call GET "/api/tickets/events/$event/reconciliation" "${admin[@]}"
  expect_in "$body" '"agrees": *true' "both stores know the same"

  step "Press a button very often"
  look "ticket.yaml lets a customer send ten changes per second, and twenty at once. Here come sixty:"
  printf '   | %s\n' "$(hurry "$event" | sort | uniq -c | tr -s ' \n' ' ')"
  expect_in "$(hurry "$event")" '^429$' "what is too much is refused before it reaches the service"
}
concert() {
  printf '%s%s' '{"name":"Tour concert","venue":"Town hall","starts":"2099-06-01T20:00:00Z","price":4500,"currency":"EUR",' \
    '"capacity":3,"per_user_limit":2,"opens":"2020-01-01T00:00:00Z","closes":"2099-06-01T20:00:00Z","strategy":"redis"}'
}
seats_left() { curl --silent --max-time 15 "$gateway/api/tickets/events/$1" | grep "\"left\": *$2\b" >/dev/null; }
# The statuses of sixty requests at once.
hurry() {
  local i
  for i in $(seq 60); do
    curl --silent --output /dev/null --max-time 15 --write-out '%{http_code}\n' --request POST \
      --header "Authorization: Bearer $token" "$gateway/api/tickets/events/$1/queue" &
  done
  wait
}

printf '%sA tour of the shop behind %s%s\n' "$bold" "$gateway" "$plain"
look "Services in Rust, each with a proxy at its side; one gateway; PostgreSQL and Redis. They know nothing of TLS,"
look "tokens, retries or tracing: all that is in the manifests in $here, and the proxies do it."

# ------------------------------------------------------------------------------------------------------------- the steps

step "Register"
email="tour-$(date +%s)-$$@shop.example"
call POST /api/users --json "{\"email\":\"$email\",\"password\":\"correct horse battery\",\"name\":\"Ada\"}"
expect_status 201 "anyone may register (rule 'registration' in user.yaml)"
look "The gateway rewrote /api/users to /users, and spoke mutual TLS to the proxy of user."

step "Log in"
call POST /api/users/login --json "{\"email\":\"$email\",\"password\":\"correct horse battery\"}"
expect_status 200 "a token signed by user; the operator fetched its public keys and pushed them to the proxies"
token=$(field access_token)
[ -n "$token" ] || stop_here "There is no token to go on with."

step "List products, without a token"
call GET '/api/products?per_page=3'
expect_status 200 "GET /products* needs no token ('exempt' in product.yaml)"
call GET '/api/products?per_page=100'
# The golden spoon exists once, so the third order of the tour could not have it; coffee beans there are plenty.
product_named() { printf '%s' "$body" | tr '{' '\n' | grep -F "\"$1\"" | sed -n 's/.*"id":"\([^"]*\)".*/\1/p' | head -n 1; }
beans=$(product_named 'Coffee beans, 1 kg')
[ -n "$beans" ] || stop_here "There are no coffee beans in the catalogue."
good "coffee beans are product $beans"

step "Order without a token"
call POST /api/orders --json "{\"items\":[{\"product_id\":\"$beans\",\"quantity\":1}]}"
expect_status 401 "order.yaml asks for a token, and the gateway checks it at the edge already"
expect_in "$headers" '^www-authenticate: *bearer' "the answer says how to authenticate"

step "Order with a token"
trace=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
look "This request carries a trace id of our own, $trace; we look for it later."
call POST /api/orders --header "Authorization: Bearer $token" --header "traceparent: 00-$trace-00f067aa0ba902b7-01" \
  --json "{\"items\":[{\"product_id\":\"$beans\",\"quantity\":2}]}"
expect_status 201 "order asked user and product over gRPC, each through two proxies, and took the stock"
expect_in "$body" '"status": *"pending"' "the order is pending"

# Orders are paid or undone. Here the token of the means of payment chooses what the simulated provider does.
pay_for_orders() {
  local order payment
  order_beans() {
    call POST /api/orders --header "Authorization: Bearer $token" \
      --json "{\"items\":[{\"product_id\":\"$beans\",\"quantity\":1}],\"payment\":{\"method\":\"$1\"}}"
  }
  beans_left() { curl --silent --max-time 15 "$gateway/api/products/$beans" | sed -n 's/.*"stock": *\([0-9]*\).*/\1/p'; }
  order_is() {
    call GET "/api/orders/$order" --header "Authorization: Bearer $token" >/dev/null
    [ "$(field status)" = "$1" ]
  }

  step "Order and pay"
  order_beans tok_ok
  expect_status 201 "order took the stock, had payment charge the card, and confirmed"
  order=$(field id)
  # At once; right after an installation, when payment could not be asked yet, some seconds later.
  wait_for "$patience" "the order is paid" order_is paid

  step "See what happened to it"
  call GET "/api/orders/$order/history" --header "Authorization: Bearer $token"
  expect_in "$body" '"type":"placed".*"type":"reserved".*"type":"payment_requested".*"type":"paid"' "every step is an event"
  call GET /api/payments --header "Authorization: Bearer $token"
  expect_in "$body" "\"reference\": *\"order:$order\"" "payment has it under the order's name: asked twice, it would charge once"
  payment=$(field id)

  step "Pay with a card that is declined"
  local before
  before=$(beans_left)
  order_beans tok_declined
  expect_status 409 "the saga goes back: the order is cancelled and its stock given back"
  expect_in "$body" 'payment-declined' "the answer says why"
  stock_is_back() { [ "$(beans_left)" = "$before" ]; }
  wait_for 10 "the beans are in stock again: $before" stock_is_back

  step "Pay while the provider's answer is lost"
  order_beans tok_timeout
  expect_status 201 "it charged and nobody heard; the order is there, and nobody guesses"
  expect_in "$body" '"status": *"pending"' "the order is pending"
  order=$(field id)
  wait_for 30 "payment asked again, told of it by an event, and the order is paid" order_is paid

  step "Cancel a paid order"
  call POST "/api/orders/$order/cancel" --header "Authorization: Bearer $token" --json '{}'
  expect_status 200 "its money and its stock go back"
  refunded() {
    call GET /api/payments --header "Authorization: Bearer $token" >/dev/null
    printf '%s' "$body" | tr '{' '\n' | grep "order:$order" | grep -q '"status":"refunded"'
  }
  wait_for 15 "payment gave the money back" refunded

  step "Forge a callback of the provider"
  call POST /api/payments/callback --header "Provider-Signature: t=$(date +%s),v1=$(printf '%064d' 0)" \
    --json "{\"id\":\"evt_forged\",\"type\":\"charge.captured\",\"payment\":\"$payment\",\"amount\":1,\"currency\":\"EUR\"}"
  expect_status 401 "no token is asked for here, but the provider's signature (rule 'provider-calls-back' in payment.yaml)"
  call POST "/api/payments/$payment/refund" --header "Authorization: Bearer $token" --json '{}'
  expect_status 403 "only an admin gives money back (rule 'admins-refund')"
}
pay_for_orders

step "Forge an identity"
call GET /api/users/me --header 'x-user-id: 00000000-0000-0000-0000-000000000000' --header 'x-user-role: admin'
expect_status 401 "headers that proxies set from tokens are removed when they come from outside"

step "Do what only admins may"
call POST /api/products --header "Authorization: Bearer $token" \
  --json '{"name":"Free lunch","description":"There is none.","price":0,"currency":"EUR","stock":1}'
expect_status 403 "a customer may not add products"
wait_for 5 "the log of product's proxies names the rule: customers-change-nothing" \
  logged customers-change-nothing product proxies
logs_of product proxies | grep customers-change-nothing | tail -n 1 |
  grep -oE '"(path|status|peer_identity|reason|policy)":("[^"]*"|[0-9]+)' | tr '\n' ' ' | sed 's/^/   | /; s/$/\n/'

step "Order more than there is"
call POST /api/orders --header "Authorization: Bearer $token" \
  --json "{\"items\":[{\"product_id\":\"$beans\",\"quantity\":1000}]}"
expect_status 409 "the stock would go below zero; nothing was taken and no order was made"

step "Follow the trace id through every hop"
hops=("order apps" "order proxies" "user apps" "user proxies" "product apps" "product proxies")
if all_logged; then hops=("public proxies" "${hops[@]}"); else look "The gateway logs errors only: accessLog of the Mesh is not All."; fi
for hop in "${hops[@]}"; do
  read -r name which <<<"$hop"
  wait_for 5 "$name, $which: it is in the log" logged "$trace" "$name" "$which"
done
look "No service sets up tracing; each passes on the header it got. With an OTLP endpoint in mesh.yaml these are spans."

# The customer is told of the order: through a stream, the notification service, and SMTP through two more proxies.
read_the_mail() {
  step "Read the mail"
  look "order told a stream of the order; notification heard of it, asked user for the address, and sent a mail."
  told() { curl --silent --max-time 15 --header "Authorization: Bearer $token" "$gateway/api/notifications?per_page=100" | grep -q "$1"; }
  wait_for "$patience" "the mail about the order is sent" told '"subject":"We have your order of[^}]*"state":"sent"'
  call GET '/api/notifications?per_page=1' --header "Authorization: Bearer $token"
  expect_status 200 "customers see what they were told, and nobody else's"
  wait_for 5 "the mailbox has a mail for $email" logged "$email" mailbox apps
  call GET /api/notifications
  expect_status 401 "not without a token"
}
read_the_mail

step "Stop product: the circuit breaker opens, and the last known products are served"
call GET '/api/products?per_page=3'
expect_status 200 "an answer that the gateway remembers"
printf '   %s> %s%s\n' "$cyan" "$stop_command" "$plain"
stop_product | sed 's/^/   < /'
look "Requests for something that was never asked before have no remembered answer. They fail, and failures open the breaker:"
for i in 1 2 3 4 5 6; do
  code=$(curl --silent --output /dev/null --max-time 15 --write-out '%{http_code}' "$gateway/api/products?query=never-asked-$i-$$")
  printf '   %s> GET /api/products?query=never-asked-%s%s  < %s\n' "$cyan" "$i" "$plain" "$code"
done
wait_for 10 "the breaker of the gateway for product is OPEN" breaker_is OPEN
wait_for 15 "$status_command shows it" is_open
shown_breaker | sed 's/^/   | /'
call GET '/api/products?per_page=3'
expect_status 200 "the products from before, while nothing runs that could answer"
expect_in "$headers" '^x-weft-stale: *true' "the answer says that it is an old one (x-weft-stale)"

step "Start product: HALF_OPEN, then CLOSED"
printf '   %s> %s%s\n' "$cyan" "$start_command" "$plain"
start_product | sed 's/^/   < /'
look "After 'openFor' (10 s in product.yaml) the breaker lets single requests through to try."
probe() {
  curl --silent --output /dev/null --max-time 15 "$gateway/api/products?query=probe-$RANDOM" || true
  local now
  now=$(breaker_of_gateway || true)
  if [ "$now" != "${seen:-}" ]; then printf '   | breaker: %s\n' "$now" && seen=$now; fi
  [ "$now" = "$1" ]
}
wait_for "$patience" "trial requests are let through: HALF_OPEN" probe HALF_OPEN
wait_for "$patience" "three of them succeeded: CLOSED" probe CLOSED
call GET '/api/products?per_page=3'
expect_status 200 "fresh products again"
if printf '%s\n' "$headers" | grep -qi '^x-weft-stale'; then bad "still an old answer"; else good "no x-weft-stale"; fi

tickets_chapter

# Bash speaks enough WebSocket for a tour: a frame with a mask of zeros is its payload behind six bytes.
# open_room FD QUERY…: connects the file descriptor to the room $room with this query. Leaves $instance, which answered.
open_room() {
  local address=${gateway#http://} line
  address=${address%%/*}
  eval "exec $1<>/dev/tcp/${address%:*}/${address##*:}"
  printf 'GET /api/chat/rooms/%s/ws?%s HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n' \
    "$room" "$2" "$address" >&"$1"
  status='' instance=''
  while IFS= read -r -t 10 line <&"$1" && line=${line%$'\r'} && [ -n "$line" ]; do
    case $line in
    HTTP/*) status=${line#* } status=${status%% *} ;;
    x-served-by:*) instance=${line#*: } ;;
    esac
  done
}

# say FD JSON: one text frame of at most 125 bytes.
say() { printf '%b%s' "\\x81\\x$(printf '%02x' $((${#2} | 128)))\\x00\\x00\\x00\\x00" "$2" >&"$1"; }

# heard FD SECONDS: the frames that come in that time, one per line; without the bytes before and between them.
heard() { { timeout "$2" cat <&"$1" || true; } | LC_ALL=C tr -c '[:print:]' '\n' | { grep -o '{.*}' || true; }; }

chat_chapter() {
  local room="tour-$(date +%s)-$$" first second frames try
  step "Load the chat page"
  call GET /api/chat
  expect_status 200 "the page needs no token; open $gateway/api/chat in a browser and log in as $email"
  expect_in "$headers" "^content-security-policy: *default-src 'none'" "it may load nothing but its own two files"

  step "Talk over WebSockets"
  case $gateway in http://*:*) ;; *) look "This chapter speaks to http://HOST:PORT only." && return ;; esac
  call GET "/api/chat/rooms/$room/messages"
  expect_status 401 "what is said in rooms is for who is logged in"
  open_room 7 "access_token=$token"
  printf '   %s> GET %s/api/chat/rooms/%s/ws?access_token=…%s  < %s, by %s\n' "$cyan" "$gateway" "$room" "$plain" "$status" "$instance"
  expect_status 101 "a browser cannot send a header with a WebSocket, so the proxy takes the token from the query"
  first=$instance second=$instance
  for try in 1 2 3 4 5 6 7 8; do
    open_room 8 "access_token=$token"
    second=$instance
    [ "$second" = "$first" ] || break
    exec 8>&-
  done
  if [ "$second" != "$first" ]; then good "a second one is connected to another instance, $second"; else bad "all are connected to $first"; fi
  say 7 '{"type":"send","client_id":"tour-1","text":"hello from the tour"}'
  frames=$(heard 8 2)
  printf '%s\n' "$frames" | cut -c 1-200 | sed 's/^/   | /'
  expect_in "$frames" '"type":"welcome".*"name":"Ada"' "the name is a claim of the token"
  expect_in "$frames" '"type":"message","id":1,.*"text":"hello from the tour"' "what one instance stored, the other one told, by Redis"
  expect_in "$(heard 7 1)" '"type":"accepted","client_id":"tour-1","id":1' "the writer was told that it is stored"
  exec 7>&- 8>&-

  step "Come back to a room"
  open_room 7 "after=0&access_token=$token"
  frames=$(heard 7 1)
  exec 7>&-
  expect_in "$frames" '"type":"message","id":1,' "what was missed comes first"
  call GET "/api/chat/rooms/$room/messages?limit=10" --header "Authorization: Bearer $token"
  expect_status 200 "the history comes in pages"
}
chat_chapter

# ---------------------------------------------------------------------------------------------------------------- the end

if [ "$failures" -gt 0 ]; then
  stop_here "$failures of the expectations above were not met. See: $afterwards."
fi
printf '\n%s%sEverything is as promised.%s Go on with: %s, and the manifests in %s.\n' \
  "$bold" "$green" "$plain" "$afterwards" "$here"
