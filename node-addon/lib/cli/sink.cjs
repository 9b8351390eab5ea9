'use strict';

// Where lines go: standard output or standard error. Nothing but whole lines is ever written here.

const fs = require('node:fs');
const { isatty } = require('node:tty');

const { LogFile } = require('./log-file.cjs');

class Sink {
  #stream;
  #full = false;
  #broken = false;
  #waiting = [];
  #shown = [];

  constructor(stream) {
    this.#stream = stream;
    this.terminal = stream.isTTY === true;
    this.colours = this.terminal && !process.env.NO_COLOR && process.env.TERM !== 'dumb';
    stream.on('drain', () => this.#release());
    // Nobody reads any more. The workers go on, and their output is thrown away.
    stream.on('error', () => {
      this.#broken = true;
      this.#release();
    });
  }

  get columns() {
    return this.#stream.columns || 80;
  }

  /** Whether the reader keeps up; if not, the next write should wait for `whenFree`. */
  write(lines) {
    if (this.#broken) return true;
    if (this.#shown.length > 0) lines = Buffer.concat([Buffer.from(this.#erase()), Buffer.from(lines), this.#table()]);
    this.#full = !this.#stream.write(lines);
    return !this.#full;
  }

  whenFree(callback) {
    if (this.#full && !this.#broken) this.#waiting.push(callback);
    else callback();
  }

  #release() {
    this.#full = false;
    for (const callback of this.#waiting.splice(0)) callback();
  }

  /** On a terminal: what stands below everything else, rewritten in place. An empty list takes it away. */
  show(lines) {
    if (this.#broken) return;
    const erase = this.#erase();
    this.#shown = lines.slice(0, (this.#stream.rows || 24) - 1).map((line) => line.slice(0, this.columns - 1));
    this.#stream.write(Buffer.concat([Buffer.from(erase), this.#table()]));
  }

  #erase() {
    return this.#shown.length === 0 ? '' : `\r\x1b[${this.#shown.length}A\x1b[J`;
  }

  #table() {
    return Buffer.from(this.#shown.map((line) => `${line}\n`).join(''));
  }

  /** Resolves once all is written, or can never be. */
  flushed() {
    return new Promise((resolve) => {
      if (this.#broken) resolve();
      this.#waiting.push(resolve);
      this.#stream.write('', () => resolve());
    });
  }
}

/** Node's own stream for a file would end with its first failed write. */
function streamOf(stat, fd) {
  if (stat.isFile() || (stat.isCharacterDevice() && !isatty(fd))) return new LogFile(fd);
  return fd === 1 ? process.stdout : process.stderr;
}

/** [for standard output, for standard error]: the same one where both are the same pipe or terminal, so that the one
 *  never gets into the middle of the other's line. */
function sinks() {
  const [one, two] = [1, 2].map((fd) => fs.fstatSync(fd));
  const out = new Sink(streamOf(one, 1));
  const same = one.dev === two.dev && one.ino === two.ino && one.rdev === two.rdev && !one.isFile();
  return [out, same ? out : new Sink(streamOf(two, 2))];
}

module.exports = { sinks };
