//#Modes: none
// Asks for two numbers and answers with their sum: dumped between the questions, it must answer
// with both.
#include <iostream>
#include <string>

int main()
{
	std::string name;
	long first, second;
	std::cout << "First number: " << std::flush;
	if (!(std::cin >> first)) {
		std::cout << "FAIL: no first number" << std::endl;
		return 1;
	}
	std::cout << "Second number: " << std::flush;
	if (!(std::cin >> second)) {
		std::cout << "FAIL: no second number" << std::endl;
		return 1;
	}
	std::cout << first << " + " << second << " = " << first + second << std::endl;
	return 0;
}
