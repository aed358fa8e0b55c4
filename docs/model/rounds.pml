/* Rounds, releases and witnesses, under an operator who copies stores, restarts enclaves and sets them back.
 *
 * W witnesses (silos, one an owner), of which the first F are faulty: they sign whatever they are shown (so they collude,
 * or have lost their memory). Q cosignatures make a quorum. I enclaves run at once, on copies of the store; BOOTS starts
 * and LENGTH entries in all.
 *
 * A log is a word of nibbles, the first entry in the lowest: what every party compares whole is, outside, a Merkle root
 * with a consistency proof. Entries:
 *     b in 1..BOOTS     `appliance.started` of boot b, and with it `round.opened`
 *     8 + 2 b' + c      `round.committed`, `round.published` by boot b' + 1 with cohort c (0, or 1: one silo fewer), and
 *                       the next `round.opened`, which is one batch under one checkpoint
 *
 * Wrong on purpose, one at a time, so that the check is seen to fail:
 *     -DQ=…        a quorum with 2 Q - W = F
 *     -DNO_HEAD    witnesses keep no head
 *     -DNO_QUORUM  an enclave releases after one cosignature
 *     -DSAME_BOOT  a boot id is used again after a restart (round keys would come back with it)
 */

#ifndef W
#define W 4
#endif
#ifndef F
#define F 1
#endif
#ifndef Q
#define Q 3
#endif
#ifndef I
#define I 2
#endif
#ifndef BOOTS
#define BOOTS 3
#endif
#ifndef LENGTH
#define LENGTH 4
#endif

#define PREFIX(log, length) ((log) & ((1 << (4 * (length))) - 1))
#define ENTRY(log, i) (((log) >> (4 * (i))) & 15)
#define PUBLISHED(entry) ((entry) >= 8)

#ifdef SAME_BOOT
#define SAME 1
#define CAN_START(e) (e.boot != 0 || boots < BOOTS)
#else
#define SAME 0
#define CAN_START(e) (boots < BOOTS)
#endif

#ifdef NO_HEAD
#define KNOWN(k, e) true
#else
#define KNOWN(k, e) (k < F || (head[k].length <= e.log.length && PREFIX(e.log.entries, head[k].length) == head[k].entries))
#endif

#ifdef NO_QUORUM
#define ENOUGH 1
#else
#define ENOUGH Q
#endif

typedef Log { int entries; byte length };

typedef Enclave {
    Log log;
    byte boot;         /* 0: not running */
    byte votes;        /* a bit a witness, for exactly this log */
    bool announced;    /* a quorum has cosigned this log */
};

Enclave enclave[I];
Log head[W];           /* what a witness has persisted */
Log copy;              /* the operator's older copy of a store */
byte boots;            /* boot ids that were given out */

/* What was seen, by nobody in the model. */
Log released;           /* the longest log that was released */
byte cohort[BOOTS + 1]; /* by boot: bit 2 r + c, once round r was committed with cohort c */

byte i, w, n, r, entry;

inline append(to, what) {
    to.log.entries = to.log.entries | ((what) << (4 * to.log.length));
    to.log.length++;
    to.votes = 0;
    to.announced = false;
}

inline count(bits) {
    n = 0;
    for (w : 0 .. W - 1) {
        n = n + (((bits) >> w) & 1)
    }
    w = 0;
}

/* A start: a new boot id, its `appliance.started`, and nothing else remembered. */
inline start(which, entries_, length_) {
    which.log.entries = entries_;
    which.log.length = length_;
    if
    :: which.boot == 0 || !SAME -> boots++; which.boot = boots
    :: which.boot != 0 && SAME -> skip
    fi;
    append(which, which.boot);
}

/* The commit of a round: never twice for one boot and number, whatever the cohort. */
inline commit(e, c) {
    r = 0;
    for (n : 0 .. e.log.length - 1) {
        if :: PUBLISHED(ENTRY(e.log.entries, n)) -> r++ :: else -> skip fi
    }
    n = 0;
    assert((cohort[e.boot] & (3 << (2 * r))) == 0);   /* an attempt has one cohort, ever */
    cohort[e.boot] = cohort[e.boot] | (1 << (2 * r + (c)));
    r = 0;
}

/* A quorum has cosigned: the keys of all that this log publishes leave the enclave. */
inline release(e) {
    e.announced = true;
    /* No fork, both of whose sides were released: and so no number with two results, for a result is its entry. */
    if
    :: released.length <= e.log.length ->
        assert(PREFIX(e.log.entries, released.length) == released.entries);
        released.entries = e.log.entries;
        released.length = e.log.length
    :: else ->
        assert(PREFIX(released.entries, e.log.length) == e.log.entries)
    fi;
    /* No release without a quorum: at least Q - F honest witnesses will remember it. */
    n = 0;
    for (w : F .. W - 1) {
        if
        :: head[w].length >= e.log.length && PREFIX(head[w].entries, e.log.length) == e.log.entries -> n++
        :: else -> skip
        fi
    }
    w = 0;
    assert(n >= Q - F);
    n = 0;
}

active proctype everybody() {
end:
    do
    /* The operator starts an enclave on what its store holds, or on the older copy (a restart, a rollback, a second
       instance: all the same to him). He ends one by starting another in its place. */
    :: atomic {
        select(i : 0 .. I - 1);
        if
        :: CAN_START(enclave[i]) && enclave[i].log.length < LENGTH ->
            start(enclave[i], enclave[i].log.entries, enclave[i].log.length)
        :: CAN_START(enclave[i]) && copy.length < LENGTH ->
            start(enclave[i], copy.entries, copy.length)
        :: else -> skip
        fi;
        i = 0
    }
    /* He copies a store. */
    :: atomic {
        select(i : 0 .. I - 1);
        copy.entries = enclave[i].log.entries;
        copy.length = enclave[i].log.length;
        i = 0
    }
    /* An announced round is closed: its result, and the next round, in one batch. The cohort is the operator's choice
       of who arrives in time. */
    :: atomic {
        select(i : 0 .. I - 1);
        if
        :: enclave[i].boot != 0 && enclave[i].announced && enclave[i].log.length < LENGTH ->
            if :: entry = 0 :: entry = 1 fi;
            commit(enclave[i], entry);
            append(enclave[i], 8 + 2 * (enclave[i].boot - 1) + entry);
            entry = 0
        :: else -> skip
        fi;
        i = 0
    }
    /* A witness is asked to cosign. It persists its head first (witness.pml is about that). With the last vote that was
       missing the enclave releases. */
    :: atomic {
        select(i : 0 .. I - 1);
        select(w : 0 .. W - 1);
        if
        :: enclave[i].boot != 0 && !enclave[i].announced && ((enclave[i].votes >> w) & 1) == 0 && KNOWN(w, enclave[i]) ->
            if
            :: w >= F ->
                head[w].entries = enclave[i].log.entries;
                head[w].length = enclave[i].log.length
            :: else -> skip
            fi;
            enclave[i].votes = enclave[i].votes | (1 << w);
            w = 0;
            count(enclave[i].votes);
            if
            :: n >= ENOUGH -> n = 0; release(enclave[i])
            :: else -> n = 0
            fi
        :: else -> w = 0
        fi;
        i = 0
    }
    od
}
