'use strict';

// Knows the slots and their workers: starts the first ones, says which of those that end are followed by another, and knows when all is
// over. Making and replacing them is the fleet's: the engine's, or the small one of stock-fleet.cjs. docs/cli.md has the rules in words.

const { EventEmitter } = require('node:events');
const { hiddenServer } = require('./hidden.cjs');
const { Life, describe, exitCodeOf } = require('./life.cjs');
const { Slots } = require('./slots.cjs');
const { Stop } = require('./stop.cjs');
const { Addresses } = require('./addresses.cjs');

/** How long the other workers wait for the first to listen. A program that cannot start then says so once, not n times. */
const FIRST_ALONE = 1000;
/** After so many lives in a row that ended before anything ever listened the supervisor gives up. */
const FALSE_STARTS = 3;
/** A signal to the whole group may end a worker before the primary has it. How old it may be, and how long it is waited for. */
const SAME_SIGNAL = 1000;
const LATER = 200;
/** Of these the script of a worker that was replaced gets the first that it handles. */
const SIGNALS = ['SIGTERM', 'SIGINT'];

/** Emits 'born' (a life), and 'swapped' (the life that has a slot's place now, and the one that had it, or null). */
class Supervisor extends EventEmitter {
  slots;
  stopping = false;
  /** Every process that was started and has not ended. */
  pids = new Set();
  #options;
  #output;
  #fleet;
  #recipe;
  #lives = new Map();
  /** Those that have ended, perhaps of a signal to the whole group that has not come to us yet. */
  #signalled = new Set();
  #firstTimer = null;
  #allStarted = false;
  #everListened = false;
  /** What hides a server from us; told once. */
  #hidden = null;
  #failure = null;
  #stops = new Map();
  #finish;

  /** `recipe(slot, generation)` says how a worker is made; `fleetFor(supervisor)` gives what makes them: { scale(count), stop() }. */
  constructor({ recipe, fleetFor, count, name, options, output }) {
    super();
    this.#options = options;
    this.#output = output;
    this.#recipe = recipe;
    this.name = name;
    this.slots = new Slots(count);
    this.addresses = new Addresses(this.slots, output, options.listenTimeout);
    /** Resolves with the exit code when no worker is left and none will follow. */
    this.finished = new Promise((resolve) => { this.#finish = resolve; });
    this.#fleet = fleetFor(this);
  }

  start() {
    this.#fleet.scale(1);
  }

  #startRest() {
    clearTimeout(this.#firstTimer);
    if (this.#allStarted || this.stopping) return;
    this.#allStarted = true;
    this.#fleet.scale(this.slots.wanted.length);
  }

  /** So many workers from here on. */
  scale(count) {
    this.slots.scale(count);
    if (this.#allStarted) this.#fleet.scale(count);
  }

  // -- What the fleet asks and tells; see primary/fleet.cjs.

  recipe(slot, generation) {
    return this.#recipe(slot, generation);
  }

  born(worker, { id, slot: index, beside }) {
    const life = new Life(worker, { id, slot: index });
    const slot = this.slots.at(index);
    slot.final = null;
    if (beside) {
      slot.next = life;
    } else {
      if (slot.begun) slot.restarts += 1;
      slot.life = life;
      life.seated = true;
    }
    slot.begun = true;
    this.#lives.set(worker, life);
    this.#output.attach(worker.process, index, this.slots.count);
    this.pids.add(life.pid);
    const silence = setTimeout(() => this.#silent(), this.#options.listenTimeout);
    life.on('listening', (address) => {
      clearTimeout(silence);
      this.#everListened = true;
      this.addresses.heard(address);
      this.#startRest();
    });
    life.once('exit', () => {
      clearTimeout(silence);
      this.pids.delete(life.pid);
      this.#lives.delete(worker);
    });
    if (!this.#allStarted) this.#firstTimer = setTimeout(() => this.#startRest(), FIRST_ALONE);
    this.emit('born', life);
  }

  notMade({ slot: index, beside }, error, next) {
    // The reload says what failed.
    if (beside || this.stopping) return;
    const slot = this.slots.at(index);
    const what = `could not be started: ${error.message}`;
    if (this.#isFalseStart(slot)) this.#giveUpStart(index, `worker ${index} ${what}`, 1);
    else this.#output.warn(`worker ${index} ${what}${next === undefined ? '' : `; the next starts in ${Math.round(next)} ms`}`);
  }

  /** A worker has ended. In how many milliseconds at least another follows; undefined: none does. */
  ends(worker, code, signal) {
    const life = this.#lives.get(worker);
    const slot = life && this.slots.get(life.slot);
    if (!slot || this.stopping) return undefined;
    const ending = { code, signal };
    if (slot.next === life) {
      slot.next = null;
      // Whoever had the place has gone meanwhile, and was the last.
      if (slot.life === null && slot.last !== null) this.#done(slot, slot.last);
      return 0;
    }
    if (slot.life !== life) return undefined;
    const verdict = this.#judge(slot, life, ending);
    const later = life.wasSignalled(SAME_SIGNAL) ? LATER : 0;
    if (later > 0) this.#signalled.add(life);
    const tell = (next) => {
      this.#signalled.delete(life);
      if (slot.life === life) slot.life = null;
      if (!this.stopping) verdict.tell(next);
    };
    if (!verdict.isFollowed) {
      // Before this one's slot is nobody's, so that theirs are others.
      if (verdict.isDone) this.#startRest();
      setTimeout(tell, later);
      return undefined;
    }
    life.tell = later === 0 ? tell : (next) => setTimeout(tell, later, next - later);
    return later;
  }

  follows(worker, next) {
    const life = this.#lives.get(worker);
    const slot = this.slots.get(life.slot);
    life.tell?.(next);
    if (life.tell || next === undefined || !slot || this.stopping) return;
    // It had taken its place, and we have not heard of that yet.
    this.#output.warn(`${whoIs(life)} ended; the next starts in ${Math.round(next)} ms`);
  }

  swapped(worker) {
    const life = this.#lives.get(worker);
    const slot = life && this.slots.get(life.slot);
    if (!slot) return;
    const before = slot.life;
    slot.life = life;
    life.seated = true;
    if (slot.next === life) slot.next = null;
    slot.restarts += 1;
    this.addresses.changed();
    this.emit('swapped', life, before);
  }

  leave(worker, atOnce) {
    const life = this.#lives.get(worker);
    if (life === undefined) return false;
    if (this.stopping) return true;
    if (atOnce) {
      // The others have nothing to finish.
      if (life.seated) this.#stops.get(life)?.hurry('SIGTERM');
      return true;
    }
    const slot = this.slots.get(life.slot);
    if (slot?.next === life) slot.next = null;
    if (slot?.life === life) slot.life = null;
    this.#retireReplaced(life);
    return true;
  }

  async #retireReplaced(life) {
    // Who has never listened has nothing to finish.
    const code = await this.retire(life, life.listens ? { signals: SIGNALS } : { deadline: 0 });
    // A stop says it by its exit code.
    if (code === 0 || !life.seated || life.ending.signal !== null || this.stopping) return;
    this.#output.warn(`${whoIs(life)} ${describe(life.ending)} when it was replaced`);
  }

  // -- Who is followed by another.

  /** { isFollowed, isDone, tell(next) }: `tell` is called when that is so. isDone: its slot needs no other. */
  #judge(slot, life, ending) {
    const listened = life.addresses.size > 0;
    const who = whoIs(life);
    const done = (tell) => ({ isFollowed: false, isDone: true, tell });
    const giveUp = (tell) => ({ isFollowed: false, isDone: false, tell });
    const isLast = this.#isLast(ending, listened);
    if (slot.next !== null) {
      slot.last = isLast ? ending : null;
      return { isFollowed: !isLast, tell: () => this.#output.warn(`${who} ${describe(ending)}; its successor is starting`) };
    }
    if (!listened && this.#isHidden(life)) return done(() => this.#done(slot, ending));
    if (isLast) {
      return done(() => {
        if (listened || ending.code !== 0) this.#output.warn(`${who} ${describe(ending)}`);
        this.#done(slot, ending);
      });
    }
    if (!listened && life.bindError !== null && !this.slots.all.some((other) => other.life?.listens)) {
      return giveUp(() => this.#giveUp(life.bindError.text, 1));
    }
    if (this.#isFalseStart(slot, life)) {
      return giveUp(() => this.#giveUpStart(slot.index, `${who} ${describe(ending)} before it listened`, exitCodeOf(ending)));
    }
    const early = listened ? '' : ' before it listened';
    if (!this.#allStarted) clearTimeout(this.#firstTimer);
    return {
      isFollowed: true,
      tell: (next) => this.#output.warn(`${who} ${describe(ending)}${early}; the next starts in ${Math.round(next)} ms`),
    };
  }

  /** Counts the lives of a slot that failed at their start. Whether they are too many. */
  #isFalseStart(slot, life) {
    slot.countStart(life);
    return !this.#everListened && slot.falseStarts >= FALSE_STARTS;
  }

  #silent() {
    const silent = this.slots.all.map((slot) => slot.life)
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

  /** What hides the server of one of these workers. */
  #hiddenAmong(lives) {
    for (const { pid } of lives) this.#hidden ??= hiddenServer(pid) ?? null;
    return this.#hidden;
  }

  /** Whether another worker seems not to listen and has a server below it. That one would go down with us, and others cannot start. */
  #isHidden(life) {
    const others = this.slots.all.map((slot) => slot.life).filter((other) => other !== null && other !== life && other.ending === null);
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

  // -- The end.

  #done(slot, ending) {
    slot.final = ending;
    if (exitCodeOf(ending) !== 0) this.#failure ??= exitCodeOf(ending);
    this.addresses.changed();
    if (this.slots.wanted.length > 0) return;
    if (!this.#everListened && this.#failure === null) {
      this.#output.warn(`${this.name} ended without having listened: cluster-rs is for programs that listen`);
    }
    this.#finish(this.#failure ?? 0);
  }

  #giveUpStart(index, what, code) {
    this.#giveUp(`${this.name} does not start: ${what}, as ${FALSE_STARTS - 1} before it`, code);
  }

  async #giveUp(why, code) {
    this.#output.warn(why);
    await this.#stopAll({ deadline: 0 });
    this.#finish(code);
  }

  /** Ends every worker gracefully because of a signal; then `finished` resolves. Called again, it makes haste. */
  async stop(signal) {
    if (this.stopping) for (const stop of this.#stops.values()) stop.hurry(signal);
    else this.#finish(await this.#stopAll({ signals: [signal], isForAll: true }));
  }

  async #stopAll(how) {
    this.stopping = true;
    clearTimeout(this.#firstTimer);
    this.#fleet.stop();
    for (const life of [...this.#lives.values(), ...this.#signalled]) if (!this.#stops.has(life)) this.retire(life, how);
    // Those that a reload had begun to stop are among them.
    const codes = await Promise.all([...this.#stops].map(async ([life, stop]) => ({ life, code: await stop.done })));
    // Those that a reload had not come to need finish nothing.
    const failures = codes.filter(({ life, code }) => code !== 0 && life.seated).map(({ code }) => code);
    return failures.length === 0 ? 0 : Math.min(...failures);
  }

  /** Ends one worker gracefully; see Stop. Resolves with 0, or how it failed, as an exit code. */
  retire(life, how = {}) {
    const stop = new Stop(life, { deadline: this.#options.stopDeadline, ...how }, (text) => this.#output.warn(text));
    this.#stops.set(life, stop);
    stop.done.then(() => this.#stops.delete(life));
    return stop.done;
  }
}

function whoIs({ slot, pid }) {
  return `worker ${slot} (pid ${pid})`;
}

module.exports = { Supervisor };
