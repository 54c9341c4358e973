// The command line that all peers have, in whatever language they are written.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <optional>
#include <stdexcept>
#include <string>

struct Options {
    std::string scheme, host, port, target;
    std::string ca_file, summary, stamp_field, echo_field;
    std::uint64_t count = 0, warmup = 0;
    std::optional<int> core;
    bool spin = false;

    static Options parse(int argc, char** argv) {
        Options options;
        std::string url;
        for (int at = 1; at < argc; ++at) {
            const std::string name = argv[at];
            if (name == "--busy-poll" || name == "--spin") {
                options.spin = true;
                continue;
            }
            if (at + 1 == argc) throw std::invalid_argument(name + ": no such option, or its value is missing");
            const std::string value = argv[++at];
            if (name == "--url") url = value;
            else if (name == "--ca-file") options.ca_file = value;
            else if (name == "--count") options.count = number(name, value);
            else if (name == "--warmup") options.warmup = number(name, value);
            else if (name == "--stamp-field") options.stamp_field = value;
            else if (name == "--echo-field") options.echo_field = value;
            else if (name == "--core") options.core = static_cast<int>(number(name, value));
            else if (name == "--summary") options.summary = value;
            else throw std::invalid_argument(name + ": no such option");
        }
        if (options.count == 0) throw std::invalid_argument("--count is missing or 0");
        if (options.summary.empty()) throw std::invalid_argument("--summary is missing");
        options.split(url);
        if (options.is_secure() && options.ca_file.empty()) throw std::invalid_argument("wss:// needs --ca-file");
        return options;
    }

    bool is_secure() const { return scheme == "wss"; }

    // As the Host header has it.
    std::string authority() const {
        return (host.find(':') == std::string::npos ? host : "[" + host + "]") + ":" + port;
    }

private:
    static std::uint64_t number(const std::string& name, const std::string& value) {
        if (value.empty() || value.find_first_not_of("0123456789") != std::string::npos)
            throw std::invalid_argument(name + ": not a number: " + value);
        return std::stoull(value);
    }

    void split(const std::string& url) {
        const auto host_at = url.find("://");
        scheme = url.substr(0, host_at);
        if (host_at == std::string::npos || (scheme != "ws" && scheme != "wss"))
            throw std::invalid_argument("--url is missing or neither ws:// nor wss://");
        const auto target_at = std::min(url.find('/', host_at + 3), url.size());
        std::string place = url.substr(host_at + 3, target_at - host_at - 3);
        target = target_at < url.size() ? url.substr(target_at) : "/";
        const auto colon = place.rfind(':');
        const bool has_port = colon != std::string::npos && place.find(']', colon) == std::string::npos;
        port = has_port ? place.substr(colon + 1) : is_secure() ? "443" : "80";
        host = place.substr(0, has_port ? colon : place.size());
        if (host.size() > 2 && host.front() == '[') host = host.substr(1, host.size() - 2);
        if (host.empty()) throw std::invalid_argument("--url has no host");
    }
};
