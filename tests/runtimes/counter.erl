%% Four processes on the schedulers' threads, and one that waits for input; see ../e2e/runtimes.rs.
-module(counter).
-mode(compile).
-export([main/1]).

main([Text]) ->
    Chunk = list_to_integer(Text),
    Main = self(),
    Walkers = [spawn_link(fun() -> walk(Main, Seed, Chunk) end) || Seed <- [1, 2, 3, 4]],
    io:format("READY~n"),
    listen(Walkers),
    [Walker ! finish || Walker <- Walkers],
    Sum = lists:sum([receive {Walker, X} -> X end || Walker <- Walkers]),
    io:format("SUM ~w~n", [Sum]).

listen(Walkers) ->
    case io:get_line("") of
        "ping\n" ->
            [Walker ! go || Walker <- Walkers],
            io:format("PONG~n"),
            listen(Walkers);
        _ ->
            ok
    end.

walk(Main, X, Chunk) ->
    receive
        go -> walk(Main, advance(X, Chunk), Chunk);
        finish -> Main ! {self(), X}
    end.

advance(X, 0) -> X;
advance(X, Left) -> advance((X * 1664525 + 1013904223) band 16#ffffffff, Left - 1).
