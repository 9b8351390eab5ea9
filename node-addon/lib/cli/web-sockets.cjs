'use strict';

// In the worker. WebSockets end when one side says so, and a script without a handler for the signal of a stop never does. Then those
// of ws, which socket.io uses, too, are told here.

const cluster = require('node:cluster');

/** How often a worker that is to end looks for new ones, in milliseconds. */
const LOOK = 200;
/** The peer is going away, in RFC 6455. */
const GOING_AWAY = 1001;
/** WebSocket.OPEN. */
const OPEN = 1;

// TLS sockets, by the socket below.
const secured = new WeakMap();

/** Keeps in mind what a later closeWebSockets() needs. */
function watchWebSockets() {
  const { _getServer } = cluster;
  const known = new WeakSet();
  cluster._getServer = function getWatched(server, ...rest) {
    if (typeof server.setSecureContext === 'function' && !known.has(server)) {
      known.add(server);
      server.prependListener('secureConnection', (socket) => socket._parent && secured.set(socket._parent, socket));
    }
    return Reflect.apply(_getServer, this, [server, ...rest]);
  };
}

function closeAll() {
  for (const handle of process._getActiveHandles?.() ?? []) {
    const socket = secured.get(handle) ?? handle;
    const symbol = Object.getOwnPropertySymbols(socket).find(({ description }) => description === 'websocket');
    const webSocket = symbol && socket[symbol];
    if (webSocket?.readyState === OPEN && typeof webSocket.close === 'function') webSocket.close(GOING_AWAY);
  }
}

/** Closes all, and those that come yet, with code 1001. */
function closeWebSockets() {
  closeAll();
  setInterval(closeAll, LOOK).unref();
}

module.exports = { closeWebSockets, watchWebSockets };
