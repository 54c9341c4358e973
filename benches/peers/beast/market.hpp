// From a payload to the fields a trader uses: simdjson's on-demand parser, which looks only at what it is asked for, in
// the order in which the venue sends it. Prices become doubles.
#pragma once

#include <simdjson.h>

#include <cstdint>
#include <string_view>
#include <vector>

enum class Kind { trade, book_ticker, depth, other };

struct Trade {
    std::string_view symbol;
    std::uint64_t id, time_ms;
    double price, quantity;
    bool buyer_is_maker;
};

struct BookTicker {
    std::string_view symbol;
    std::uint64_t update;
    double bid_price, bid_quantity, ask_price, ask_quantity;
};

struct Level {
    double price, quantity;
};

struct Depth {
    std::string_view symbol;
    std::uint64_t first_update, last_update;
    // Kept from message to message, so that their memory is asked for once.
    std::vector<Level> bids, asks;
};

class Decoder {
public:
    Trade trade{};
    BookTicker book_ticker{};
    Depth depth{};

    // Decodes a message of Binance's spot streams, combined or single, into the member that belongs to its kind.
    // simdjson reads some bytes beyond the end of `payload`: `capacity` is what may be read from its start.
    Kind decode(std::string_view payload, std::size_t capacity) {
        const bool is_combined = payload.starts_with(R"({"stream":")");
        const Kind kind = is_combined ? kind_of_stream(payload) : kind_of_event(payload);
        if (kind == Kind::other) return kind;
        auto document = parser_.iterate(payload, capacity);
        simdjson::ondemand::object data =
            is_combined ? document["data"].get_object() : document.get_object();
        switch (kind) {
        case Kind::trade:
            trade.symbol = data["s"];
            trade.id = data["t"];
            trade.price = data["p"].get_double_in_string();
            trade.quantity = data["q"].get_double_in_string();
            trade.time_ms = data["T"];
            trade.buyer_is_maker = data["m"];
            break;
        case Kind::book_ticker:
            book_ticker.update = data["u"];
            book_ticker.symbol = data["s"];
            book_ticker.bid_price = data["b"].get_double_in_string();
            book_ticker.bid_quantity = data["B"].get_double_in_string();
            book_ticker.ask_price = data["a"].get_double_in_string();
            book_ticker.ask_quantity = data["A"].get_double_in_string();
            break;
        case Kind::depth:
            depth.symbol = data["s"];
            depth.first_update = data["U"];
            depth.last_update = data["u"];
            levels(data["b"], depth.bids);
            levels(data["a"], depth.asks);
            break;
        case Kind::other:
            break;
        }
        return kind;
    }

private:
    simdjson::ondemand::parser parser_;

    static Kind kind_of_stream(std::string_view payload) {
        const auto at = payload.find('@');
        if (at == std::string_view::npos) return Kind::other;
        const auto name = payload.substr(at + 1);
        if (name.starts_with("trade\"")) return Kind::trade;
        if (name.starts_with("bookTicker\"")) return Kind::book_ticker;
        if (name.starts_with("depth@") || name.starts_with("depth\"")) return Kind::depth;
        return Kind::other;
    }

    // The venue puts the type first; a ticker has none, and its update number is first.
    static Kind kind_of_event(std::string_view payload) {
        if (payload.starts_with(R"({"e":"trade")")) return Kind::trade;
        if (payload.starts_with(R"({"u":)")) return Kind::book_ticker;
        if (payload.starts_with(R"({"e":"depthUpdate")")) return Kind::depth;
        return Kind::other;
    }

    static void levels(simdjson::ondemand::array found, std::vector<Level>& levels) {
        levels.clear();
        for (simdjson::ondemand::array pair : found) {
            auto number = pair.begin();
            const double price = (*number).get_double_in_string();
            ++number;
            levels.push_back({price, (*number).get_double_in_string()});
        }
    }
};
