'use strict';

// HTTP clients that forgive nothing: a request that has been sent and is not answered has failed, also on a connection that
// was used before. Only what the server closes before the next request is sent is no failure.

const net = require('node:net');

const HUNG = 2000;
const OUTCOMES = ['answered', 'refused', 'cut', 'hung', 'wrong'];

class Client {
  #port;
  #request;
  #keepAlive;
  #counts;
  #socket = null;
  #done = null;
  #text = '';

  constructor(port, keepAlive, counts) {
    this.#port = port;
    this.#keepAlive = keepAlive;
    this.#counts = counts;
    this.#request = `GET / HTTP/1.1\r\nHost: localhost\r\n${keepAlive ? '' : 'Connection: close\r\n'}\r\n`;
  }

  /** One request. Resolves when its outcome is known. */
  ask() {
    return new Promise((resolve) => {
      const timer = setTimeout(() => this.#finish('hung'), HUNG);
      this.#done = (outcome) => {
        clearTimeout(timer);
        this.#counts[outcome] += 1;
        resolve();
      };
      this.#text = '';
      if (this.#socket) {
        this.#counts.reused += 1;
        this.#socket.write(this.#request);
      } else {
        this.#connect();
      }
    });
  }

  #connect() {
    const socket = net.connect({ port: this.#port, host: '127.0.0.1', noDelay: true });
    this.#socket = socket;
    const isOurs = () => this.#socket === socket;
    socket.once('connect', () => socket.write(this.#request));
    socket.setEncoding('latin1').on('data', (text) => {
      this.#text += text;
      this.#read();
    });
    socket.once('error', ({ code }) => isOurs() && this.#finish(code === 'ECONNREFUSED' ? 'refused' : 'cut'));
    socket.once('end', () => isOurs() && this.#finish('cut'));
  }

  #read() {
    const end = this.#text.indexOf('\r\n\r\n');
    if (end < 0) return;
    const head = this.#text.slice(0, end).toLowerCase();
    const [, length] = /content-length: (\d+)/.exec(head) ?? [];
    if (!head.startsWith('http/1.1 200 ') || length === undefined) this.#finish('wrong');
    else if (this.#text.length >= end + 4 + Number(length)) this.#finish('answered', !/connection: close/.test(head));
  }

  // What comes between two requests, the server's end of the connection, is no request's outcome.
  #finish(outcome, isKept = false) {
    const done = this.#done;
    this.#done = null;
    if (!isKept || !this.#keepAlive) this.close();
    done?.(outcome);
  }

  close() {
    const socket = this.#socket;
    this.#socket = null;
    socket?.on('error', () => {}).destroy();
  }
}

/** Clients that ask again `pause` milliseconds after each answer, until `enough` says so. Resolves with the counts. */
async function crowd(port, { kept, fresh, pause }, counts, enough) {
  for (const name of [...OUTCOMES, 'reused']) counts[name] = 0;
  await Promise.all(Array.from({ length: kept + fresh }, async (_, index) => {
    const client = new Client(port, index < kept, counts);
    // Not in step with one another.
    await new Promise((resolve) => setTimeout(resolve, pause * index / (kept + fresh)));
    while (!enough()) {
      await client.ask();
      await new Promise((resolve) => setTimeout(resolve, pause));
    }
    client.close();
  }));
  return counts;
}

/** How many requests there were, and how many of them were not answered as they should. */
function sum(counts) {
  const all = OUTCOMES.reduce((total, name) => total + counts[name], 0);
  return { all, failed: all - counts.answered };
}

module.exports = { crowd, sum };
