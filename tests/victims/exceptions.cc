//#Modes: root user newpid leave left empty
// C++ exceptions thrown over frames that were made before the dump, thread-local objects, streams.
#include "victim.h"
#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

struct counted {
	static int alive;
	counted() { alive++; }
	~counted() { alive--; }
};
int counted::alive;
static thread_local std::vector<std::string> words = { "one", "two" };

static void inner(int depth)
{
	counted here;
	if (depth == 10) {
		ready();
		await_verify();
		std::ostringstream text;
		text << "thrown at " << depth << ' ' << words.size();
		throw std::runtime_error(text.str());
	}
	inner(depth + 1);
}

int main()
{
	auto shared = std::make_shared<std::string>("shared");
	try {
		inner(0);
	} catch (const std::exception &e) {
		CHECK(std::string(e.what()) == "thrown at 10 2", "caught '%s'", e.what());
	}
	SAME(counted::alive, 0);
	CHECK(*shared == "shared" && words[1] == "two", "values");
	ok();
}
