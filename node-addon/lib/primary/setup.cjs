'use strict';

// Settings of a primary that Node's own cluster does not know: two more policies, and `mechanism`, `listen` and `listenMax`. Node
// stores them with its own settings; only the engine follows them. One wrapper of setupPrimary checks them all.

const { MECHANISMS, POLICIES } = require('../names.cjs');

const PORT_MAX = 65535;
const COUNT_MAX = 2 ** 32 - 1;

function invalid(name, why) {
  return Object.assign(new TypeError(`The property 'settings.${name}' ${why}`), { code: 'ERR_INVALID_ARG_VALUE' });
}

/** How connections reach the workers. Throws if that names no mechanism. */
function mechanismOf({ mechanism = 'auto' }) {
  if (MECHANISMS.includes(mechanism)) return mechanism;
  const received = typeof mechanism === 'string' ? `'${mechanism}'` : String(mechanism);
  throw invalid('mechanism', `must be one of: ${MECHANISMS.map((name) => `'${name}'`).join(', ')}. Received ${received}`);
}

// A rule in the engine's words.
function textOf(rule) {
  if (typeof rule === 'string') return rule;
  if (Number.isInteger(rule) && rule >= 0 && rule <= PORT_MAX) return `:${rule}`;
  throw invalid('listen', 'is invalid: each rule must be a text such as \'127.0.0.1:80\', or a port');
}

/** What workers may listen on, in the engine's words: { rules, most }. Throws if it cannot be understood. */
function permitsOf({ listen, listenMax: most = 0 }, faultOfRules) {
  if (!Number.isInteger(most) || most < 0 || most > COUNT_MAX) throw invalid('listenMax', 'is invalid: it must be an integer from 0');
  if (listen === undefined) return { most };
  if (!Array.isArray(listen)) throw invalid('listen', 'is invalid: it must be an array');
  const rules = listen.map(textOf);
  const fault = faultOfRules(rules);
  if (fault) throw invalid('listen', `is invalid: ${fault}`);
  return { rules, most };
}

/**
 * Adds all of it to node:cluster in a primary. Gives functions that say what is in force, or will be: policy(), isOfEngine()
 * (whether the engine moves the connections under that policy), mechanism() and permits(). `faultOfRules(rules)`: what is wrong
 * with rules for what workers may listen on.
 */
function addSettings(cluster, faultOfRules) {
  const { setupPrimary } = cluster;
  // Policies that Node refuses. While its own code looks they are its round-robin.
  const added = new Map([...POLICIES].filter(([, policy]) => policy > cluster.SCHED_RR));
  const isAdded = (policy) => [...added.values()].includes(policy);
  let frozen;

  cluster.SCHED_LEAST_LOADED = added.get('least-loaded');
  cluster.SCHED_SOURCE_HASH = added.get('source-hash');
  cluster.schedulingPolicy = added.get(process.env.NODE_CLUSTER_SCHED_POLICY) ?? cluster.schedulingPolicy;

  cluster.setupPrimary = function setupPrimaryChecked(...args) {
    const given = Object(args[0]);
    permitsOf(given, faultOfRules);
    mechanismOf(given);
    const { schedulingPolicy } = cluster;
    // Node freezes the policy here too.
    frozen ??= schedulingPolicy;
    if (!isAdded(schedulingPolicy)) return Reflect.apply(setupPrimary, this, args);
    cluster.schedulingPolicy = cluster.SCHED_RR;
    try {
      return Reflect.apply(setupPrimary, this, args);
    } finally {
      cluster.schedulingPolicy = schedulingPolicy;
    }
  };
  cluster.setupMaster = cluster.setupPrimary;

  const policy = () => frozen ?? cluster.schedulingPolicy;
  return {
    policy,
    isOfEngine: () => policy() === cluster.SCHED_RR || isAdded(policy()),
    mechanism: () => mechanismOf(cluster.settings),
    permits: () => permitsOf(cluster.settings, faultOfRules),
  };
}

module.exports = { addSettings };
