# A pool of processes, a lock and a counter that all of them use; the digest tells whether every
# part was done once.
import hashlib
import multiprocessing


def start(lock, counter):
    global shared
    shared = lock, counter


def part(number):
    lock, counter = shared
    digest = hashlib.sha256(b"part %d" % number)
    for _ in range(20000):
        digest.update(digest.digest())
    with lock:
        counter.value += 1
    return digest.hexdigest()


if __name__ == "__main__":
    lock = multiprocessing.Lock()
    counter = multiprocessing.Value("i", 0, lock=False)
    whole = hashlib.sha256()
    with multiprocessing.Pool(3, start, (lock, counter)) as pool:
        for number, text in enumerate(pool.imap(part, range(120), chunksize=2)):
            whole.update(text.encode())
            if number % 20 == 0:
                print("part", number, flush=True)
    print("digest", whole.hexdigest(), counter.value, flush=True)
