/* One witness of the tlog-witness protocol (or one silo), stopped at any moment, while an adversary shows it a log that
 * forks: two branches A and B with a common first entry.
 *
 * REQUESTS handlers serve at once. Each takes a checkpoint, holds it against the head, persists the new head, and only
 * then lets the cosignature out. A kill ends all handlers and what is in memory; a power cut also takes what was written
 * and not synced. The same steps are a silo's, which has one handler.
 *
 * Property: no two cosignatures that ever left contradict each other.
 *
 * Wrong on purpose, one at a time, so that the check is seen to fail:
 *     -DSIGN_FIRST  the cosignature leaves before the head is durable
 *     -DNO_LOCK     the head is compared, and then replaced, without excluding the other handlers
 *     -DNO_SYNC     the head is written and not synced
 *     -DIN_MEMORY   the head is not written at all
 *     -DSKIP_SAME   the head is not written where it stays the same, which is right only with -DSETTLE: a start makes
 *                   durable what it reads, for a kill may have left it in the kernel's cache alone
 */

#ifndef REQUESTS
#define REQUESTS 2
#endif
#define LONGEST 3
#define STOPS 2

/* A checkpoint is a branch and a size; of one entry there is one history. */
#define A 0
#define B 1
#define COMPARABLE(b1, s1, b2, s2) ((b1) == (b2) || (s1) <= 1 || (s2) <= 1)
#define EXTENDS(b1, s1, b2, s2) ((s1) <= (s2) && COMPARABLE(b1, s1, b2, s2))

typedef Head { byte branch; byte size };

Head memory;           /* what the handlers compare with */
Head written;          /* in the kernel's cache */
Head durable;          /* what a power cut leaves */
bit locked;
byte life;             /* a handler of an earlier life does nothing any more */
byte stops;
byte largest[2];       /* by branch: the largest size whose cosignature left */

inline write_head(b, s) {
#ifdef SKIP_SAME
    if
    :: atomic { life == mine && memory.branch == b && memory.size == s -> skip }
    :: atomic { life == mine && (memory.branch != b || memory.size != s) -> skip }
        replace_head(b, s)
    fi
#else
    replace_head(b, s)
#endif
}

inline replace_head(b, s) {
#ifndef IN_MEMORY
    atomic { life == mine -> written.branch = b; written.size = s }
#ifndef NO_SYNC
    atomic { life == mine -> durable.branch = written.branch; durable.size = written.size }
#endif
#endif
    atomic { life == mine -> memory.branch = b; memory.size = s }
}

inline sign(b, s) {
    atomic {
        life == mine ->
        if
        :: s > largest[b] -> largest[b] = s
        :: else -> skip
        fi;
        assert(COMPARABLE(A, largest[A], B, largest[B]))
    }
}

proctype handler() {
    byte mine = 0;
    byte branch = 0;
    byte size = 0;
    do
    :: true ->
        /* A request of any branch and size, with a proof from whatever this witness has: only a true extension has one. */
        atomic {
            mine = life;
            if :: branch = A :: branch = B fi;
            select(size : 1 .. LONGEST)
        }
        {
#ifndef NO_LOCK
            atomic { !locked && life == mine -> locked = 1 }
#endif
            if
            :: atomic { life == mine && EXTENDS(memory.branch, memory.size, branch, size) -> skip }
#ifdef SIGN_FIRST
                sign(branch, size);
                write_head(branch, size)
#else
                write_head(branch, size);
                sign(branch, size)
#endif
            :: life == mine && !EXTENDS(memory.branch, memory.size, branch, size) -> skip   /* 409, or 422 */
            fi;
#ifndef NO_LOCK
            atomic { life == mine -> locked = 0 }
#endif
        } unless { life != mine }
    od
}

/* Kills and power cuts: a new life begins with what is left. */
active proctype stopper() {
end:
    do
    :: atomic {
        stops < STOPS ->
        stops++;
        life++;
        locked = 0;
        if
        :: skip                                                          /* killed: the kernel has all of it */
        :: written.branch = durable.branch; written.size = durable.size  /* the power was cut */
        fi;
        memory.branch = written.branch;
        memory.size = written.size;
#ifdef SETTLE
        durable.branch = written.branch; durable.size = written.size;
#endif
    }
    od
}

init {
    atomic {
        byte started = 0;
        do
        :: started < REQUESTS -> run handler(); started++
        :: else -> break
        od
    }
}
