'use strict';

// The reading end of Node's channel to a worker: what comes there before it is a message. And of its output, for what is attached.

const { load } = require('../addon.cjs');

// One message, in bytes. Node keeps what has come of it until all of it is there.
const LONGEST = 256 << 20;

class Channel {
  #child;
  #channel;
  #onread;
  #offend;
  // A handle whose message has not come yet.
  #waiting = null;
  #begun = 0;

  /** `offend(what)` is called when a worker sends what no Node sends. */
  constructor(child, offend) {
    this.#child = child;
    this.#offend = offend;
    const symbol = Object.getOwnPropertySymbols(child).find(({ description }) => description === 'kChannelHandle');
    this.#channel = symbol && child[symbol];
    this.#onread = this.#channel?.onread;
    if (typeof this.#onread !== 'function') return;
    this.#channel.onread = (...args) => this.#read(args);
    load().lookBeforeReading(this.#channel.fd);
    for (const stream of child.stdio ?? []) if (stream?._handle?.fd >= 0) load().refuseDescriptors(stream._handle.fd);
    child.once('disconnect', () => this.#drop());
  }

  /** Node keeps a list of the sockets that came of a server. */
  hasList(server) {
    return Object.hasOwn(Object(this.#channel?.sockets?.got), server);
  }

  /** The worker waits to hear that all sockets of a server are closed. */
  isAsking(server) {
    return this.hasList(server) && this.#channel.sockets.got[server].listenerCount('empty') > 0;
  }

  /** The message of a handle has come. */
  claim() {
    this.#waiting = null;
  }

  /** Reads nothing more, and closes what has come unasked. To Node that is as if the worker had hung up. */
  hangUp() {
    if (typeof this.#onread !== 'function' || !this.#child.channel) return;
    load().discardUnread(this.#channel.fd);
    this.#end();
  }

  #read(args) {
    const [bytes] = args;
    if (!bytes) {
      if (load().cameUnfit()) this.#offend('descriptors of which Node makes no handle');
      else this.#end();
      return;
    }
    const handle = this.#channel.pendingHandle;
    if (handle && this.#waiting) {
      this.#offend('a handle without a message');
      return;
    }
    if (handle) this.#waiting = handle;
    try {
      Reflect.apply(this.#onread, this.#channel, args);
    } catch (error) {
      // What listeners throw does not come through here: they run in a later tick.
      this.#offend(`what is no message (${error.message.split('\n')[0].replace(/\p{C}/gu, '?')})`);
      return;
    }
    this.#begun = this.#channel.buffering ? this.#begun + bytes.byteLength : 0;
    if (this.#begun > LONGEST) this.#begun = this.#kept();
    if (this.#begun > LONGEST) this.#offend(`a message of more than ${LONGEST >> 20} MiB`);
  }

  // What Node keeps of a message.
  #kept() {
    const symbols = Object.getOwnPropertySymbols(this.#channel);
    const [text, size] = ['kJSONBuffer', 'kMessageBufferSize'].map((name) => {
      return this.#channel[symbols.find(({ description }) => description === name)];
    });
    return text?.length ?? size ?? 0;
  }

  #drop() {
    this.#channel.pendingHandle?.close();
    this.#channel.pendingHandle = null;
    this.#waiting?.close();
    this.#waiting = null;
  }

  #end() {
    this.#drop();
    // While a handle waits for its acknowledgement Node would not notice the end, or take it for an error.
    this.#child._handleQueue = null;
    if (this.#child.channel) this.#child.connected = true;
    Reflect.apply(this.#onread, this.#channel, []);
  }
}

module.exports = { Channel };
