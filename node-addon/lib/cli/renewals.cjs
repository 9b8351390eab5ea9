'use strict';

// Replacing workers that run, as signals and options ask for it. The engine does it; here it is asked, and what comes of it is said.

const { absence } = require('../addon.cjs');
const { describe } = require('./life.cjs');
const { MOST_INSTANCES } = require('./values.cjs');

/** A worker that is named in the engine's reasons was made not long ago: so many of them are remembered, at least. */
const REMEMBERED = 64;
const ENDED = /^(?:ended|exited|was ended|could not be).* (before it was ready|soon after it had taken its place)/;

function plural(count) {
  return `${count} worker${count === 1 ? '' : 's'}`;
}

class Renewals {
  #cluster;
  #supervisor;
  #releases;
  #options;
  #output;
  /** By the engine's id. */
  #lives = new Map();
  /** By generation: how many workers its reload was to replace. */
  #running = new Map();
  /** By pid: whose place it has. */
  #before = new Map();

  constructor({ cluster, supervisor, releases, options, output }) {
    this.#cluster = cluster;
    this.#supervisor = supervisor;
    this.#releases = releases;
    this.#options = options;
    this.#output = output;
    if (absence()) {
      const asked = [['recycle', '--recycle'], ['parallel', '--parallel'], ['waitReady', '--wait-ready']];
      const names = asked.filter(([name]) => options[name] !== undefined && options[name] !== false).map(([, name]) => name);
      if (names.length > 0) this.#needsTheAddon(names.join(', '), 'the workers are not replaced while they run');
      return;
    }
    supervisor.on('born', (life) => this.#remember(life));
    supervisor.on('swapped', (life, before) => this.#swapped(life, before));
    cluster.on('reload', (news) => this.#heard(news));
    cluster.on('recycle', (worker) => this.#recycled(worker));
    if (options.recycle) cluster.recycle(options.recycle);
  }

  #needsTheAddon(what, then) {
    this.#output.warn(`${what} needs the addon of cluster-rs, which is not there: ${then}`);
  }

  /** Replaces all workers. One that runs already is superseded. */
  async reload() {
    if (this.#supervisor.stopping) return;
    if (absence()) {
      this.#needsTheAddon('SIGHUP: a reload', 'the workers go on as they are');
      return;
    }
    try {
      await this.#cluster.reload({
        parallel: this.#options.parallel, readyTimeout: this.#options.listenTimeout, rollback: this.#releases.canGoBack,
      });
    } catch (error) {
      this.#output.warn(`SIGHUP: nothing is reloaded: ${error.message}`);
    }
  }

  /** One worker more, or fewer. */
  scale(signal, more) {
    if (this.#supervisor.stopping) return;
    if (absence()) {
      this.#needsTheAddon(`${signal}: another number of workers`, 'there are as many as before');
      return;
    }
    const count = this.#supervisor.slots.wanted.length + more;
    if (count < 1 || count > MOST_INSTANCES) {
      this.#output.say(`${signal}: ${plural(count - more)}, and no ${more > 0 ? 'more' : 'fewer'}`);
      return;
    }
    this.#output.say(`${signal}: ${plural(count)} from here on`);
    this.#supervisor.scale(count);
  }

  #remember(life) {
    this.#lives.set(life.id, life);
    const most = Math.max(REMEMBERED, 4 * this.#supervisor.slots.count);
    for (const id of this.#lives.keys()) if (this.#lives.size > most) this.#lives.delete(id);
  }

  #swapped(life, before) {
    const was = `worker ${life.slot} is now pid ${life.pid}${before === null ? '' : `, was ${before.pid}`}`;
    if (this.#running.size > 0) {
      this.#output.say(`reload: ${was}`);
      return;
    }
    // What follows says why.
    this.#before.set(life.worker, was);
    life.once('exit', () => this.#before.delete(life.worker));
  }

  #recycled(worker) {
    const was = this.#before.get(worker);
    this.#before.delete(worker);
    if (was !== undefined) this.#output.say(`recycle: ${was}`);
  }

  #heard({ generation, phase, replaced, reason }) {
    if (phase === 'checking') {
      const count = this.#supervisor.slots.wanted.length;
      this.#running.set(generation, count);
      const { parallel = 1 } = this.#options;
      const atATime = parallel === 1 ? 'one' : parallel;
      if (!this.#supervisor.stopping) this.#output.say(`reload: replacing ${plural(count)}, ${atATime} at a time`);
      return;
    }
    if (phase === 'rolling') return;
    const of = `${replaced} of ${plural(this.#running.get(generation) ?? replaced)}`;
    this.#running.delete(generation);
    if (phase === 'done') this.#releases.done(generation);
    if (this.#supervisor.stopping) return;
    if (phase === 'done') this.#output.say('reload: done');
    else if (phase === 'superseded') this.#output.say(`reload superseded: ${reason}; ${of} had been replaced`);
    else this.#failed(phase, reason, replaced, of);
  }

  async #failed(phase, reason, replaced, of) {
    const [, id, lack] = /^worker ([0-9]+) ([^;]*)/.exec(reason) ?? [];
    const life = this.#lives.get(Number(id));
    let why = reason;
    if (life !== undefined) {
      const [, when] = ENDED.exec(lack) ?? [];
      // The engine may know of an end before us.
      const what = when === undefined ? lack : `${describe(await life.exited())} ${when}`;
      why = `the new worker ${life.slot} (pid ${life.pid}) ${what}${life.bindError === null ? '' : ` (${life.bindError.text})`}`;
    }
    if (this.#supervisor.stopping) return;
    if (phase === 'rolled-back') {
      const [, rest = 'all workers are as before'] = /; (not all could be put back.*)$/.exec(reason) ?? [];
      this.#output.warn(`reload rolled back: ${why}; ${rest}`);
    } else if (replaced === 0) {
      this.#output.warn(`reload refused: ${why}; the old workers go on`);
    } else {
      this.#output.warn(`reload stopped: ${why}; ${of} are new, and stay`);
    }
  }
}

module.exports = { Renewals };
