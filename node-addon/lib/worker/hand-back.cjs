'use strict';

// Idle connections of a plain HTTP/1.1 server whose worker leaves: other workers get them, unread, as if they were new.

const { connectionsOf, idleOf } = require('./http-connections.cjs');

/** Node's own listener for connections. */
const OWN_LISTENERS = 1;

/** Of another kind a connection's beginning may have been read, which only this process knows. */
function isPlain(server) {
  if (typeof server.setSecureContext === 'function' || server.handBack === false) return false;
  return server.handBack === true || server.listenerCount('connection') <= OWN_LISTENERS;
}

/** Its client has had every answer, and nothing of it has been read that only this process knows. */
function isUnread({ _handle: handle, encrypted, readableLength, writableLength }) {
  return handle?.fd >= 0 && !encrypted && readableLength === 0 && writableLength === 0 && !(handle.writeQueueSize > 0);
}

class HandBack {
  #list;
  #returns;
  #ok;
  #full;
  /** False for good once nobody takes any. */
  isPossible = true;

  /** `codes`: the addon's, for what it answers. */
  constructor(list, returns, { EAGAIN, EINVAL }) {
    this.#list = list;
    this.#returns = returns;
    this.#full = -EAGAIN;
    this.#ok = [0, -EAGAIN, -EINVAL];
  }

  /** `undefined` where connections of this server are not handed back. */
  static of(server, returns, codes) {
    const list = connectionsOf(server);
    return list && returns && isPlain(server) ? new HandBack(list, returns, codes) : undefined;
  }

  /** The primary has said that it takes them. */
  get isOpen() {
    return this.#returns.areOpen;
  }

  /** Hands back what is idle, as far as somebody has room. */
  handIdle() {
    if (!this.isPossible || !this.isOpen) return;
    for (const socket of idleOf(this.#list).filter(isUnread)) {
      if (this.#give(socket) === this.#full || !this.isPossible) return;
    }
  }

  #give(socket) {
    const { _handle: handle } = socket;
    // From here on nothing is read; what comes belongs to the next.
    const wasReading = handle.reading !== false;
    if (wasReading) handle.readStop();
    const given = this.#returns.give(handle.fd);
    if (given === 0) socket.destroy();
    else if (wasReading) handle.readStart();
    this.isPossible = this.#ok.includes(given);
    return given;
  }
}

module.exports = { HandBack };
