'use strict';

// Sends connections to a worker without the addon, over Node's own channel. As Node's primary does, it sends the next when the worker
// has answered. Until then it keeps the connection, so that another worker can have it.

const { errno: ERRNO } = require('node:os').constants;

const { taker } = require('../connection.cjs');
const { watch } = require('../watch.cjs');

// How long a worker that refused is left alone, in milliseconds. Others may take the connection meanwhile.
const PAUSE = 50;

let asked = 0;

class Relay {
  #engine;
  #entry;
  #key;
  #handle;
  #name;
  #listener;
  #take;
  #pending = null;
  #closing = false;

  constructor(engine, entry, key, { handle, listener: name }, listener) {
    this.#engine = engine;
    this.#entry = entry;
    this.#key = key;
    this.#handle = handle;
    this.#name = name;
    this.#listener = listener;
    this.#take = taker(listener.isTcp);
    watch(listener, () => this.#turn());
  }

  #turn() {
    const { process: child } = this.#entry.worker;
    if (this.#pending || this.#closing || !child.connected) {
      this.#listener.ignore();
      return;
    }
    const connection = this.#take(() => this.#listener.accept());
    if (connection === -ERRNO.EAGAIN) return;
    // The next one when the worker has answered.
    this.#listener.ignore();
    if (connection === undefined || typeof connection === 'number') {
      // Anything but a shortage means that nothing comes any more.
      const isShort = [undefined, -ERRNO.EMFILE, -ERRNO.ENFILE].includes(connection);
      if (isShort) this.#resumeLater();
      return;
    }
    asked += 1;
    const seq = `cluster-rs:${asked}`;
    this.#pending = { seq, connection };
    const message = { cmd: 'NODE_CLUSTER', act: 'newconn', key: this.#key, seq };
    child.send(message, connection, undefined, (error) => {
      if (error) this.acknowledged(seq, false);
    });
  }

  /** The worker has said whether it took the connection. */
  acknowledged(seq, accepted) {
    if (this.#pending?.seq !== seq) return;
    const { connection } = this.#pending;
    this.#pending = null;
    if (!accepted) this.#engine.putBack(this.#handle, connection.fd);
    connection.close();
    if (this.#closing) this.#leave();
    else if (accepted) this.#listener.resume();
    else this.#resumeLater();
  }

  #resumeLater() {
    setTimeout(() => this.#closing || this.#listener.resume(), PAUSE).unref();
  }

  /** The worker wants no more. It may still take a connection that it was asked about. */
  close() {
    if (this.#closing) return;
    this.#closing = true;
    this.#listener.ignore();
    if (!this.#pending) this.#leave();
  }

  /** The worker can take nothing any more. */
  end() {
    this.close();
    if (this.#pending) this.acknowledged(this.#pending.seq, false);
  }

  #leave() {
    this.#entry.shares.delete(this.#key);
    this.#listener.close();
    this.#engine.closeShare(this.#entry.id, this.#name);
  }
}

module.exports = { Relay };
