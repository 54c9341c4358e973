// Counts, clocks and the summary.
#pragma once

#include "market.hpp"
#include "options.hpp"

#include <boost/preprocessor/stringize.hpp>
#include <boost/version.hpp>
#include <openssl/crypto.h>

#include <algorithm>
#include <cstdio>
#include <numeric>
#include <sstream>
#include <time.h>

inline std::uint64_t clock_ns(clockid_t clock) {
    timespec now;
    clock_gettime(clock, &now);
    return std::uint64_t(now.tv_sec) * 1'000'000'000 + std::uint64_t(now.tv_nsec);
}

inline std::string versions() {
    // "OpenSSL 3.0.1 1 Jan 2022": the second word.
    std::istringstream openssl(OpenSSL_version(OPENSSL_VERSION));
    std::string version;
    openssl >> version >> version;
    char text[160];
    std::snprintf(text, sizeof text,
                  R"({"boost": "%d.%d.%d", "openssl": "%s", "simdjson": "%d.%d.%d", "simdjson_built_for": "%s"})",
                  BOOST_VERSION / 100000, BOOST_VERSION / 100 % 1000, BOOST_VERSION % 100, version.c_str(),
                  simdjson::SIMDJSON_VERSION_MAJOR, simdjson::SIMDJSON_VERSION_MINOR,
                  simdjson::SIMDJSON_VERSION_REVISION, BOOST_PP_STRINGIZE(SIMDJSON_BUILTIN_IMPLEMENTATION));
    return text;
}

class Tally {
public:
    explicit Tally(const Options& options)
        : options_(options), stamp_key_(key(options.stamp_field)), echo_key_(key(options.echo_field)) {
        // Written once, so that no page is touched for the first time while messages are timed.
        latency_ns_.assign(options.count - std::min(options.count, options.warmup), ~0ull);
        latency_ns_.clear();
    }

    // Decodes a text message, looks at the clock, and counts. Answers what is to be sent back; empty for nothing.
    std::string_view take(std::string_view payload, std::size_t capacity) {
        const Kind kind = decoder_.decode(payload, capacity);
        // Nothing of the decoding may slip below the clock.
        asm volatile("" : : "r"(&decoder_) : "memory");
        const auto now_ns = clock_ns(CLOCK_MONOTONIC);

        ++messages_;
        bytes_ += payload.size();
        ++events_[static_cast<int>(kind)];
        if (messages_ == 1) first_ns_ = now_ns;
        last_ns_ = now_ns;
        if (kind == Kind::other) return {};
        if (messages_ > options_.warmup) {
            if (const auto digits = number_in(payload, stamp_key_); !digits.empty()) {
                std::uint64_t stamp_ns = 0;
                for (const char digit : digits) stamp_ns = stamp_ns * 10 + std::uint64_t(digit - '0');
                if (stamp_ns <= now_ns) latency_ns_.push_back(now_ns - stamp_ns);
                else ++stamps_ahead_;
            }
        }
        const auto echo = number_in(payload, echo_key_);
        echoes_ += !echo.empty();
        return echo;
    }

    bool is_done() const { return messages_ >= options_.count; }

    std::string shortfall() const {
        if (is_done()) return {};
        return "the server closed the connection after " + std::to_string(messages_) + " of " +
               std::to_string(options_.count) + " messages";
    }

    void write_summary(const std::string& error) {
        std::FILE* file = std::fopen(options_.summary.c_str(), "w");
        if (file == nullptr) throw std::runtime_error("cannot write " + options_.summary);
        std::fprintf(file, "{\n  \"client\": \"beast\",\n  \"version\": %s,\n  \"busy_poll\": %s,\n", versions().c_str(),
                     options_.spin ? "true" : "false");
        std::fprintf(file, "  \"messages\": %lu,\n  \"bytes\": %lu,\n", messages_, bytes_);
        std::fprintf(file,
                     "  \"events\": {\"trade\": %lu, \"bookTicker\": %lu, \"depth\": %lu, \"other\": %lu},\n"
                     "  \"echoes\": %lu,\n  \"stamps_ahead\": %lu,\n  \"latency_ns\": %s,\n",
                     events_[0], events_[1], events_[2], events_[3], echoes_, stamps_ahead_, latency().c_str());
        std::fprintf(file, "  \"first_to_last_s\": %.9f,\n  \"cpu_seconds\": %.9f,\n  \"error\": %s\n}\n",
                     double(last_ns_ - first_ns_) / 1e9, double(clock_ns(CLOCK_PROCESS_CPUTIME_ID)) / 1e9,
                     quoted(error).c_str());
        if (std::fclose(file) != 0) throw std::runtime_error("cannot write " + options_.summary);
    }

private:
    const Options& options_;
    const std::string stamp_key_, echo_key_;
    Decoder decoder_;
    std::uint64_t messages_ = 0, bytes_ = 0, events_[4] = {}, echoes_ = 0, stamps_ahead_ = 0;
    std::vector<std::uint64_t> latency_ns_;
    std::uint64_t first_ns_ = 0, last_ns_ = 0;

    static std::string key(const std::string& name) { return name.empty() ? "" : '"' + name + "\":"; }

    // The digits behind the last occurrence of the key, from the raw payload and after the clock: this is part of the
    // measurement, not of the client. A stamp is the last field of a message, so it is found at once.
    static std::string_view number_in(std::string_view payload, const std::string& key) {
        if (key.empty()) return {};
        const auto at = payload.rfind(key);
        if (at == std::string_view::npos) return {};
        const auto number = payload.substr(at + key.size());
        return number.substr(0, std::min(number.find_first_not_of("0123456789"), number.size()));
    }

    std::string latency() {
        if (latency_ns_.empty()) return "null";
        std::sort(latency_ns_.begin(), latency_ns_.end());
        const auto count = latency_ns_.size();
        // The nearest rank: a value that occurred, of which at least that share is not greater.
        const auto at = [&](std::size_t per_mille) {
            return latency_ns_[std::max<std::size_t>((count * per_mille + 999) / 1000, 1) - 1];
        };
        const double sum = std::accumulate(latency_ns_.begin(), latency_ns_.end(), 0.0);
        char text[320];
        std::snprintf(text, sizeof text,
                      "{\"count\": %zu, \"min\": %lu, \"mean\": %.3f, \"p50\": %lu, \"p90\": %lu, \"p99\": %lu, "
                      "\"p999\": %lu, \"max\": %lu}",
                      count, latency_ns_.front(), sum / double(count), at(500), at(900), at(990), at(999),
                      latency_ns_.back());
        return text;
    }

    static std::string quoted(const std::string& text) {
        if (text.empty()) return "null";
        std::string quoted = "\"";
        for (const char letter : text) {
            if (letter == '"' || letter == '\\') quoted += '\\';
            quoted += static_cast<unsigned char>(letter) < ' ' ? ' ' : letter;
        }
        return quoted + '"';
    }
};
