'use strict';

// HTTP/2 sessions of a server whose worker leaves. Node tells their clients since version 24 (GOAWAY: open streams are finished,
// new ones go elsewhere). Before, a session goes on for as long as its client likes.

const sessions = new WeakMap();

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
    session.once('close', () => open.delete(session));
  });
}

/** Tells the clients of all sessions of this server, also of those that come yet. */
function endSessions(server) {
  const open = sessions.get(server);
  if (!open) return;
  for (const session of open) session.close();
  server.on('session', (session) => session.close());
}

module.exports = { endSessions, trackSessions };
