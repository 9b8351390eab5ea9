'use strict';

// HTTP/2 sessions of a server whose worker leaves. Node tells their clients since version 24 (GOAWAY: open streams are finished,
// new ones go elsewhere). Before, a session goes on for as long as its client likes.

/** How long a session without a stream may wait for its first, in milliseconds. */
const SILENCE = 1000;

const sessions = new WeakMap();
const used = new WeakSet();

// Node's own list of them, where it has one.
function hasOwnList(server) {
  return Object.getOwnPropertySymbols(server).some(({ description }) => description === 'sessions');
}

/** Call when an HTTP/2 server begins to listen. */
function trackSessions(server) {
  if (sessions.has(server) || hasOwnList(server)) return;
  const open = new Set();
  sessions.set(server, open);
  server.prependListener('session', (session) => {
    open.add(session);
    session.once('stream', () => used.add(session));
    session.once('close', () => open.delete(session));
  });
}

// The first request of a client that has just connected may be on its way.
function end(session) {
  if (used.has(session)) {
    session.close();
    return;
  }
  session.once('stream', () => setImmediate(() => session.close()));
  setTimeout(() => session.close(), SILENCE).unref();
}

/** Tells the clients of all sessions of this server, also of those that come yet. */
function endSessions(server) {
  const open = sessions.get(server);
  if (!open) return;
  open.forEach(end);
  server.on('session', end);
}

module.exports = { endSessions, trackSessions };
