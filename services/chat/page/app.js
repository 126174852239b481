// The chat page. All that others write goes in as text, never as markup. The token is kept in this page only: it is gone
// with it, and no other tab or script can find it.

// '/api/chat' behind the gateway, '/chat' without; the user service is its neighbour.
const base = location.pathname.replace(/\/+$/, '');
const login = base.replace(/\/chat$/, '/users/login');

const ACK_AFTER = 1000;
const TYPING_EVERY = 2500;
const TYPING_SHOWN = 4000;
const FIRST_RETRY = 500;
const LAST_RETRY = 30000;

const at = (id) => document.getElementById(id);
const [status, problem, log, older, people] = ['status', 'problem', 'log', 'older', 'people'].map(at);

/** The room this page is in; null while nobody is logged in. */
let talk = null;

// ------------------------------------------------------------------------------------------------------------- login

at('login').addEventListener('submit', async (event) => {
  event.preventDefault();
  const form = new FormData(event.target);
  problem.textContent = '';
  try {
    const token = await logIn(form.get('email'), form.get('password'));
    at('password').value = '';
    await enter(form.get('room'), token);
  } catch (error) {
    problem.textContent = error.message;
  }
});

async function logIn(email, password) {
  const answer = await fetch(login, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ email, password }),
  });
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(body.detail ?? `You could not be logged in (${answer.status}).`);
  return body.access_token;
}

async function enter(room, token) {
  talk = { room, token, last: 0, first: null, waiting: new Map(), here: new Map(), typing: new Map(), attempt: 0 };
  log.replaceChildren();
  const page = await history('');
  page.items.forEach((message) => show(message));
  talk.first = page.items[0]?.id ?? null;
  older.hidden = !page.more;
  at('room-title').textContent = room;
  at('login').hidden = true;
  at('talk').hidden = false;
  at('text').focus();
  connect();
}

/** Back to the login form, with the reason. */
function leave(why) {
  const socket = talk?.socket;
  clearTimeout(talk?.retry);
  talk = null;
  socket?.close(1000);
  at('talk').hidden = true;
  at('login').hidden = false;
  status.textContent = 'Not connected';
  problem.textContent = why;
  at('email').focus();
}

at('leave').addEventListener('click', () => leave(''));

// ----------------------------------------------------------------------------------------------------------- history

async function history(query) {
  const answer = await fetch(`${base}/rooms/${talk.room}/messages?limit=50${query}`, {
    headers: { authorization: `Bearer ${talk.token}` },
  });
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(body.detail ?? `The room cannot be read (${answer.status}).`);
  return body;
}

older.addEventListener('click', async () => {
  const page = await history(`&before=${talk.first}`).catch(() => null);
  if (!page) return;
  log.prepend(...page.items.map(line));
  talk.first = page.items[0]?.id ?? talk.first;
  older.hidden = !page.more;
});

// -------------------------------------------------------------------------------------------------------- connection

function connect() {
  const mine = talk;
  const scheme = location.protocol === 'https:' ? 'wss:' : 'ws:';
  const query = `after=${mine.last}&access_token=${encodeURIComponent(mine.token)}`;
  const socket = new WebSocket(`${scheme}//${location.host}${base}/rooms/${mine.room}/ws?${query}`);
  mine.socket = socket;
  mine.comeBack = null;
  status.textContent = 'Connecting…';
  socket.addEventListener('message', (event) => talk === mine && take(JSON.parse(event.data)));
  socket.addEventListener('close', (event) => talk === mine && closed(event));
}

const handlers = {
  welcome(frame) {
    talk.user = frame.user;
    talk.here = new Map((frame.present ?? []).map((person) => [person.user, person.name]));
    talk.here.set(frame.user, frame.name);
    showPeople();
  },
  live() {
    talk.attempt = 0;
    status.textContent = 'Connected';
    // What was not accepted before the connection broke is sent again under the same name, and stored once.
    for (const clientId of talk.waiting.keys()) send(clientId);
  },
  message(frame) {
    if (frame.id <= talk.last) return;
    talk.typing.delete(frame.user);
    showTyping();
    show(frame);
    acknowledge();
  },
  accepted(frame) { settle(frame.client_id); },
  joined(frame) { talk.here.set(frame.user, frame.name); showPeople(); },
  left(frame) { talk.here.delete(frame.user); showPeople(); },
  typing(frame) {
    if (frame.user === talk.user) return;
    talk.typing.set(frame.user, { name: frame.name, until: Date.now() + TYPING_SHOWN });
    showTyping();
    setTimeout(() => talk && showTyping(), TYPING_SHOWN + 50);
  },
  error(frame) {
    if (!frame.client_id) { status.textContent = frame.detail; return; }
    if (frame.retry_after_ms == null) { settle(frame.client_id, 'failed'); return; }
    const mine = talk;
    setTimeout(() => talk === mine && send(frame.client_id), frame.retry_after_ms);
  },
  reconnect(frame) { talk.comeBack = frame.after_ms; },
};

function take(frame) { handlers[frame.type]?.(frame); }

async function closed({ code, reason }) {
  if (code === 4401) { leave('Your login has expired. Log in again.'); return; }
  if (code === 4429) { leave('You are connected too often. Close another window first.'); return; }
  const mine = talk;
  const longest = Math.min(LAST_RETRY, FIRST_RETRY * 2 ** mine.attempt++);
  // Spread over the whole span, so that those who were cut off together do not come back together.
  const wait = mine.comeBack ?? Math.random() * longest;
  status.textContent = `Connection lost${reason ? ` (${reason})` : ''}: connecting again…`;
  // A refused handshake tells a page nothing; a request for the history tells whether the token is the reason.
  if (code === 1006 && mine.attempt > 1 && await refused()) { leave('Log in again.'); return; }
  mine.retry = setTimeout(() => talk === mine && connect(), wait);
}

async function refused() {
  const answer = await fetch(`${base}/rooms/${talk.room}/people`, {
    headers: { authorization: `Bearer ${talk.token}` },
  }).catch(() => null);
  return answer?.status === 401;
}

// ----------------------------------------------------------------------------------------------------------- writing

at('write').addEventListener('submit', (event) => {
  event.preventDefault();
  const text = at('text').value;
  if (!text.trim()) return;
  const clientId = crypto.randomUUID?.() ?? `${Date.now()}-${Math.random()}`;
  const item = document.createElement('li');
  item.className = 'waiting';
  item.textContent = text;
  talk.waiting.set(clientId, { text, item });
  log.append(item);
  log.scrollTop = log.scrollHeight;
  at('text').value = '';
  send(clientId);
});

function send(clientId) {
  const waiting = talk.waiting.get(clientId);
  if (waiting && talk.socket.readyState === WebSocket.OPEN) {
    talk.socket.send(JSON.stringify({ type: 'send', client_id: clientId, text: waiting.text }));
  }
}

/** A message is stored, and comes as such; or it never will be. */
function settle(clientId, as) {
  const waiting = talk.waiting.get(clientId);
  if (!waiting) return;
  talk.waiting.delete(clientId);
  if (as) waiting.item.className = as; else waiting.item.remove();
}

at('text').addEventListener('input', () => {
  const now = Date.now();
  if (!talk || now - (talk.typed ?? 0) < TYPING_EVERY || talk.socket.readyState !== WebSocket.OPEN) return;
  talk.typed = now;
  talk.socket.send('{"type":"typing"}');
});

/** Says now and then how far this user has read; nobody reads a page that is not shown. */
function acknowledge() {
  if (talk.acknowledging) return;
  const mine = talk;
  mine.acknowledging = setTimeout(() => {
    mine.acknowledging = null;
    if (document.hidden || mine.socket.readyState !== WebSocket.OPEN) return;
    mine.socket.send(JSON.stringify({ type: 'ack', id: mine.last }));
  }, ACK_AFTER);
}

document.addEventListener('visibilitychange', () => talk?.last && acknowledge());

// ----------------------------------------------------------------------------------------------------------- showing

function show(message) {
  const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
  // Its waiting form goes when it is accepted, which comes before or after.
  const waits = log.querySelector('.waiting');
  log.insertBefore(line(message), waits);
  talk.last = message.id;
  if (atEnd) log.scrollTop = log.scrollHeight;
}

function line(message) {
  const item = document.createElement('li');
  item.dataset.id = message.id;
  if (message.user === talk.user) item.className = 'own';
  const time = document.createElement('time');
  time.dateTime = message.time;
  time.textContent = new Date(message.time).toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' });
  const name = document.createElement('span');
  name.className = 'name';
  name.textContent = message.name;
  const text = document.createElement('span');
  text.className = 'text';
  text.textContent = message.text;
  item.append(time, name, text);
  return item;
}

function showPeople() {
  const names = [...talk.here.values()].sort((a, b) => a.localeCompare(b));
  people.replaceChildren(...names.map((name) => {
    const item = document.createElement('li');
    item.textContent = name;
    return item;
  }));
  at('count').textContent = talk.here.size;
}

function showTyping() {
  const now = Date.now();
  const names = [...talk.typing.values()].filter((one) => one.until > now).map((one) => one.name);
  at('typing').textContent = names.length === 0 ? ''
    : names.length === 1 ? `${names[0]} is typing…`
      : names.length < 4 ? `${names.join(', ')} are typing…` : 'Several people are typing…';
}
