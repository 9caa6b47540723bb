/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * A small key-value server that has a say in its suspension.
 *
 * Before it is suspended it flushes and closes its journal, says goodbye to its clients and gives its port
 * back; when it is resumed it opens all that again. While a client has a transaction open it refuses.
 *
 *	kv PORT JOURNAL		PORT 0 is any
 *
 * Requests are lines, and so are answers: GET key, SET key value, BEGIN (SETs wait from here on), COMMIT,
 * ABORT, ID (of this instance of the server: two that were resumed from one image differ).
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <suspend.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#define CLIENTS 64
#define LINE 512
#define KEYS 1024

struct pair {
	char *key, *value;
};

struct client {
	int fd; /* -1: a free place */
	size_t used;
	char line[LINE];
	int in_transaction;
	size_t waiting; /* pairs that COMMIT will store */
	struct pair pairs[16];
};

static struct pair store[KEYS];
static size_t stored;
static struct client clients[CLIENTS];
static int transactions;
static int listener = -1, port, wake;
static FILE *journal;
static const char *journal_name;
static uint8_t instance[16];
/* Counts suspensions: what poll(2) said before one is not about what is open after it. */
static unsigned generation;

static void die(const char *what)
{
	fprintf(stderr, "kv: %s: %s\n", what, strerror(errno));
	exit(1);
}

static char *copy(const char *text)
{
	char *made = strdup(text);
	if (!made)
		die("memory");
	return made;
}

/* The store. */

static const char *find(const char *key)
{
	for (size_t i = 0; i < stored; i++)
		if (!strcmp(store[i].key, key))
			return store[i].value;
	return NULL;
}

static int set(const char *key, const char *value)
{
	size_t i = 0;
	while (i < stored && strcmp(store[i].key, key) != 0)
		i++;
	if (i == KEYS)
		return -1;
	if (i == stored)
		store[stored++].key = copy(key);
	else
		free(store[i].value);
	store[i].value = copy(value);
	/* Buffered: the journal is complete when it was flushed. */
	fprintf(journal, "%s %s\n", key, value);
	return 0;
}

static void open_journal(void)
{
	journal = fopen(journal_name, "ae");
	if (!journal)
		die(journal_name);
}

/* Clients. */

static void reply(struct client *client, const char *text)
{
	/* One that does not read its answers loses them. */
	send(client->fd, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT);
	send(client->fd, "\n", 1, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void end_transaction(struct client *client, int commit)
{
	for (size_t i = 0; i < client->waiting; i++) {
		struct pair *pair = &client->pairs[i];
		if (commit)
			set(pair->key, pair->value);
		free(pair->key);
		free(pair->value);
	}
	client->waiting = 0;
	transactions -= client->in_transaction;
	client->in_transaction = 0;
}

static void hang_up(struct client *client)
{
	end_transaction(client, 0);
	close(client->fd);
	client->fd = -1;
}

static void serve(struct client *client, char *line)
{
	char *word = strtok(line, " "), *key = strtok(NULL, " "), *value = strtok(NULL, "");
	if (word && !strcmp(word, "GET") && key) {
		const char *found = find(key);
		reply(client, found ? found : "-");
	} else if (word && !strcmp(word, "SET") && key && value) {
		if (!client->in_transaction) {
			reply(client, set(key, value) == 0 ? "OK" : "FULL");
		} else if (client->waiting < sizeof client->pairs / sizeof client->pairs[0]) {
			client->pairs[client->waiting++] = (struct pair){copy(key), copy(value)};
			reply(client, "OK");
		} else
			reply(client, "FULL");
	} else if (word && !strcmp(word, "BEGIN") && !client->in_transaction) {
		client->in_transaction = 1;
		transactions++;
		reply(client, "OK");
	} else if (word && (!strcmp(word, "COMMIT") || !strcmp(word, "ABORT"))) {
		end_transaction(client, *word == 'C');
		reply(client, "OK");
	} else if (word && !strcmp(word, "ID")) {
		char text[33];
		for (int i = 0; i < 16; i++)
			snprintf(text + 2 * i, 3, "%02x", instance[i]);
		reply(client, text);
	} else
		reply(client, "WHAT");
}

static void receive(struct client *client)
{
	ssize_t got = recv(client->fd, client->line + client->used, LINE - 1 - client->used, 0);
	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (got <= 0) {
		hang_up(client);
		return;
	}
	client->used += got;
	client->line[client->used] = 0;
	char *line = client->line, *end;
	while ((end = strchr(line, '\n')) != NULL) {
		*end = 0;
		serve(client, line);
		line = end + 1;
	}
	client->used -= line - client->line;
	memmove(client->line, line, client->used);
	if (client->used == LINE - 1)
		hang_up(client);
}

static void welcome(void)
{
	int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd < 0)
		return;
	for (int i = 0; i < CLIENTS; i++) {
		if (clients[i].fd < 0) {
			clients[i] = (struct client){.fd = fd};
			return;
		}
	}
	close(fd);
}

/* Listens on the port of before; where that is taken, as by another resumed from the same image, on
 * any other. */
static void start_listening(void)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t length = sizeof at;
	int yes = 1;
	at.sin_port = htons(port);
	listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (listener < 0 || setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) != 0)
		die("socket");
	if (bind(listener, (struct sockaddr *)&at, sizeof at) != 0) {
		at.sin_port = 0;
		if (bind(listener, (struct sockaddr *)&at, sizeof at) != 0)
			die("bind");
	}
	if (listen(listener, 16) != 0 || getsockname(listener, (struct sockaddr *)&at, &length) != 0)
		die("listen");
	port = ntohs(at.sin_port);
	printf("listening on %d\n", port);
	fflush(stdout);
}

/* The two callbacks run on the library's thread, and never while the other one is in a section, between
 * suspend_hold and suspend_release: nothing here needs a lock. */

static int before_suspend(void *nothing, struct suspend_request *request)
{
	(void)nothing;
	if (transactions > 0) {
		snprintf(request->reason, sizeof request->reason, "transactions are open: %d", transactions);
		return 1;
	}
	if (fflush(journal) != 0 || fsync(fileno(journal)) != 0) {
		snprintf(request->reason, sizeof request->reason, "%s: %s", journal_name, strerror(errno));
		return 1;
	}
	fclose(journal);
	close(listener);
	for (int i = 0; i < CLIENTS; i++) {
		if (clients[i].fd >= 0) {
			reply(&clients[i], "BYE");
			hang_up(&clients[i]);
		}
	}
	return 0;
}

/* Also where the suspension was called off, or this is the one that runs on. */
static void after_suspend(void *nothing, const struct suspend_outcome *outcome)
{
	(void)nothing;
	generation++;
	if (outcome->event == SUSPEND_RESUMED)
		memcpy(instance, outcome->random, sizeof instance);
	open_journal();
	start_listening();
	/* poll still waits for what was closed. */
	eventfd_write(wake, 1);
}

int main(int argc, char **argv)
{
	if (argc != 3) {
		fprintf(stderr, "usage: kv PORT JOURNAL\n");
		return 2;
	}
	port = atoi(argv[1]);
	journal_name = argv[2];
	for (int i = 0; i < CLIENTS; i++)
		clients[i].fd = -1;
	wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (wake < 0 || getrandom(instance, sizeof instance, 0) != sizeof instance)
		die("start");
	open_journal();
	start_listening();
	if (suspend_init(NULL) != 0 || suspend_register(before_suspend, after_suspend, NULL) < 0)
		die("suspend_init");
	for (;;) {
		struct pollfd fds[2 + CLIENTS];
		suspend_hold();
		unsigned seen = generation;
		fds[0] = (struct pollfd){.fd = wake, .events = POLLIN};
		fds[1] = (struct pollfd){.fd = listener, .events = POLLIN};
		for (int i = 0; i < CLIENTS; i++)
			fds[2 + i] = (struct pollfd){.fd = clients[i].fd, .events = POLLIN};
		suspend_release();
		/* Here it may be suspended, while nothing is being done. */
		if (poll(fds, 2 + CLIENTS, -1) < 0 && errno != EINTR)
			die("poll");
		suspend_hold();
		if (seen == generation) {
			if (fds[1].revents)
				welcome();
			for (int i = 0; i < CLIENTS; i++)
				if (fds[2 + i].fd >= 0 && fds[2 + i].revents)
					receive(&clients[i]);
		} else {
			eventfd_t count;
			eventfd_read(wake, &count);
		}
		suspend_release();
	}
}
