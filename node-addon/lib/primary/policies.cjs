'use strict';

// Node's own cluster knows two policies and refuses every other number. Here it has two more, which only the engine follows;
// for Node itself they are its round-robin.

const LEAST_LOADED = 3;
const SOURCE_HASH = 4;

// As NODE_CLUSTER_SCHED_POLICY names them.
const NAMED = { 'least-loaded': LEAST_LOADED, 'source-hash': SOURCE_HASH };

/** Adds the policies to node:cluster in a primary. Gives a function that says which one is in force, or will be. */
function addPolicies(cluster) {
  const { setupPrimary } = cluster;
  let frozen;

  cluster.SCHED_LEAST_LOADED = LEAST_LOADED;
  cluster.SCHED_SOURCE_HASH = SOURCE_HASH;
  cluster.schedulingPolicy = NAMED[process.env.NODE_CLUSTER_SCHED_POLICY] ?? cluster.schedulingPolicy;

  cluster.setupPrimary = function setupPrimaryOnce(...args) {
    // Node freezes the policy here too.
    frozen ??= cluster.schedulingPolicy;
    const { schedulingPolicy } = cluster;
    if (!Object.values(NAMED).includes(schedulingPolicy)) return Reflect.apply(setupPrimary, this, args);
    cluster.schedulingPolicy = cluster.SCHED_RR;
    try {
      return Reflect.apply(setupPrimary, this, args);
    } finally {
      cluster.schedulingPolicy = schedulingPolicy;
    }
  };
  cluster.setupMaster = cluster.setupPrimary;

  return () => frozen ?? cluster.schedulingPolicy;
}

/** Whether the engine moves the connections under a policy. */
function isOfEngine(cluster, policy) {
  return [cluster.SCHED_RR, LEAST_LOADED, SOURCE_HASH].includes(policy);
}

module.exports = { LEAST_LOADED, addPolicies, isOfEngine };
