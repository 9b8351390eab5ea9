'use strict';

// Starts the workers, replaces those that end, and knows when all is over. docs/cli.md has the rules in words.

const { hiddenServer } = require('./hidden.cjs');
const { describe, exitCodeOf } = require('./life.cjs');
const { Queue } = require('./queue.cjs');
const { Slot } = require('./slots.cjs');
const { Stop } = require('./stop.cjs');
const { Addresses } = require('./addresses.cjs');

/** How long the other workers wait for the first to listen. A program that cannot start then says so once, not n times. */
const FIRST_ALONE = 1000;
/** After so many lives in a row that ended before anything ever listened the supervisor gives up. */
const FALSE_STARTS = 3;
/** A signal to the whole group may end a worker before the primary has it. How old it may be, and how long it is waited for. */
const SAME_SIGNAL = 1000;
const LATER = 200;

class Supervisor {
  slots;
  stopping = false;
  /** Every process that was started and has not ended. */
  pids = new Set();
  #options;
  #output;
  #firstTimer = null;
  #allStarted = false;
  #everListened = false;
  /** What hides a server from us; told once. */
  #hidden = null;
  #failure = null;
  #stops = new Set();
  #finish;

  /** `fork(slot)` makes a worker of the cluster and may throw. */
  constructor({ fork, count, name, options, output }) {
    this.#options = options;
    this.#output = output;
    this.name = name;
    this.slots = Array.from({ length: count }, (_, index) => new Slot(index, fork));
    this.addresses = new Addresses(this.slots, output, options.listenTimeout);
    /** Those that wait for their next start. */
    this.queue = new Queue(count, () => this.#everListened && !this.slots.some((slot) => slot.life?.listens));
    /** Resolves with the exit code when no worker is left and none will follow. */
    this.finished = new Promise((resolve) => { this.#finish = resolve; });
  }

  start() {
    this.#startFirst();
  }

  #startFirst() {
    this.launch(this.slots[0]);
    this.#firstTimer = setTimeout(() => this.#startRest(), FIRST_ALONE);
  }

  #startRest() {
    clearTimeout(this.#firstTimer);
    if (this.#allStarted || this.stopping) return;
    this.#allStarted = true;
    for (const slot of this.slots.slice(1)) if (slot.life === null && slot.next === null) this.launch(slot);
  }

  /** A worker for a slot that has none. */
  launch(slot) {
    slot.life = this.born(slot);
  }

  born(slot) {
    const life = slot.born();
    if (life.worker !== null) this.#output.attach(life.worker.process, slot.index, this.slots.length);
    this.pids.add(life.pid);
    const silence = setTimeout(() => this.#silent(), this.#options.listenTimeout);
    life.on('listening', (address) => {
      clearTimeout(silence);
      this.#everListened = true;
      this.addresses.heard(address);
      this.#startRest();
    });
    life.once('exit', (ending) => {
      clearTimeout(silence);
      this.pids.delete(life.pid);
      this.#ended(slot, life, ending);
    });
    return life;
  }

  #silent() {
    const silent = this.slots.map((slot) => slot.life)
      .filter((life) => life !== null && life.ending === null && life.addresses.size === 0 && !life.warned);
    if (silent.length === 0 || this.stopping) return;
    for (const life of silent) life.warned = true;
    const plural = silent.length > 1;
    const cause = silent.find((life) => life.bindError !== null)?.bindError.text ?? this.#hiddenAmong(silent) ??
      'cluster-rs shares what a program listens on; sockets opened with exclusive or reusePort it does not see';
    const seconds = this.#options.listenTimeout / 1000;
    this.#output.warn(`worker${plural ? 's' : ''} ${silent.map((life) => life.slot).join(' ')} of ${this.name} ` +
      `run${plural ? '' : 's'} but ${plural ? 'do' : 'does'} not listen after ${seconds} s (${cause})`);
  }

  #ended(slot, life, ending) {
    // The reload sees to workers that it tries out or has replaced.
    if (slot.life !== life) return;
    if (!this.stopping && life.wasSignalled(SAME_SIGNAL)) setTimeout(() => this.#left(slot, life, ending), LATER);
    else this.#left(slot, life, ending);
  }

  #left(slot, life, ending) {
    if (slot.life !== life) return;
    slot.life = null;
    if (this.stopping) return;
    if (slot.next === null) this.replace(slot, life, ending);
    else this.#output.warn(`worker ${slot.index} (pid ${life.pid}) ${describe(ending)}; its successor is starting`);
  }

  /** What follows a worker that ended without being asked to. */
  replace(slot, life, ending) {
    const listened = life.addresses.size > 0;
    const who = `worker ${slot.index}${life.pid === undefined ? '' : ` (pid ${life.pid})`}`;
    if (!listened && this.#isHidden()) {
      this.#done(slot, ending);
      return;
    }
    if (this.#isLast(ending, listened)) {
      if (listened || ending.code !== 0) this.#output.warn(`${who} ${describe(ending)}`);
      this.#done(slot, ending);
      return;
    }
    if (!listened && life.bindError !== null && !this.slots.some((other) => other.life?.listens)) {
      this.#giveUp(life.bindError.text, 1);
      return;
    }
    const delay = slot.delayAfter(life);
    if (!this.#everListened && slot.falseStarts >= FALSE_STARTS) {
      this.#giveUp(`${this.name} does not start: ${who} ${describe(ending)} before it listened, ` +
        `as ${FALSE_STARTS - 1} before it`, exitCodeOf(ending));
      return;
    }
    const early = listened ? '' : ' before it listened';
    this.#output.warn(`${who} ${describe(ending)}${early}; the next starts in ${delay} ms`);
    if (!this.#allStarted) clearTimeout(this.#firstTimer);
    this.queue.add(slot.index, delay, () => {
      slot.restarts += 1;
      if (this.#allStarted) this.launch(slot);
      else this.#startFirst();
    });
  }

  /** What hides the server of one of these workers. */
  #hiddenAmong(lives) {
    for (const { pid } of lives) this.#hidden ??= hiddenServer(pid) ?? null;
    return this.#hidden;
  }

  /** Whether another worker seems not to listen and has a server below it. That one would go down with us, and others cannot start. */
  #isHidden() {
    const others = this.slots.map((slot) => slot.life).filter((life) => life !== null && life.ending === null);
    if (this.#everListened || others.length === 0) return false;
    const isTold = this.#hidden !== null;
    if (this.#hiddenAmong(others) === null) return false;
    if (!isTold) this.#output.warn(`only one worker can serve: ${this.#hidden}`);
    return true;
  }

  #isLast({ code, signal }, listened) {
    const success = code === 0 && !signal;
    switch (this.#options.respawn) {
      case 'never': return true;
      case 'on-failure': return success;
      // A program that ends with code 0 without ever having listened has done its work.
      default: return success && !listened;
    }
  }

  #done(slot, ending) {
    slot.final = ending;
    if (exitCodeOf(ending) !== 0) this.#failure ??= exitCodeOf(ending);
    this.#startRest();
    this.addresses.changed();
    if (this.slots.some((other) => other.final === null)) return;
    if (!this.#everListened && this.#failure === null) {
      this.#output.warn(`${this.name} ended without having listened: cluster-rs is for programs that listen`);
    }
    this.#finish(this.#failure ?? 0);
  }

  async #giveUp(why, code) {
    this.#output.warn(why);
    await this.#stopAll({ deadline: 0 });
    this.#finish(code);
  }

  /** Ends every worker gracefully because of a signal; then `finished` resolves. Called again, it makes haste. */
  async stop(signal) {
    if (this.stopping) for (const stop of this.#stops) stop.hurry(signal);
    else this.#finish(await this.#stopAll({ signals: [signal], isForAll: true }));
  }

  async #stopAll(how) {
    this.stopping = true;
    clearTimeout(this.#firstTimer);
    for (const slot of this.slots) {
      this.queue.cancel(slot.index);
      for (const life of [slot.life, slot.next]) if (life !== null) this.retire(life, how);
    }
    // Those that a reload had begun to stop are among them.
    const codes = await Promise.all([...this.#stops].map((stop) => stop.done));
    const failures = codes.filter((code) => code !== 0);
    return failures.length === 0 ? 0 : Math.min(...failures);
  }

  /** Ends one worker gracefully; see Stop. Resolves with 0, or how it failed, as an exit code. */
  retire(life, how = {}) {
    const stop = new Stop(life, { deadline: this.#options.stopDeadline, ...how }, (text) => this.#output.warn(text));
    this.#stops.add(stop);
    stop.done.then(() => this.#stops.delete(stop));
    return stop.done;
  }
}

module.exports = { Supervisor };
